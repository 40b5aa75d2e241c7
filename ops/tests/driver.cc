// Runs the operators' loops on random graphs outside XLA, for the sanitizers: `make sanitize`. Sums are compared with
// plain ones in double precision, and bit by bit between numbers of threads.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <queue>
#include <random>
#include <thread>
#include <vector>

#include "brainsim/gather.h"
#include "brainsim/outer.h"
#include "brainsim/scatter.h"
#include "brainsim/team.h"

namespace {

using namespace brainsim;

// What XLA's pool is to a kernel: a queue and threads that may be busy for long.
class Pool {
 public:
  explicit Pool(int n) {
    for (int k = 0; k < n; ++k) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }
  int64_t num_threads() const { return threads_.size(); }
  template <typename F>
  void Schedule(F&& f) {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push(f);
    wake_.notify_one();
  }

 private:
  void serve() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto task = std::move(queue_.front());
      queue_.pop();
      lock.unlock();
      task();
    }
  }
  std::vector<std::thread> threads_;
  std::queue<std::function<void()>> queue_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
};

void require(bool truth, const char* what, unsigned seed) {
  if (truth) return;
  std::fprintf(stderr, "driver: %s, seed %u\n", what, seed);
  std::exit(1);
}

template <typename T>
struct Case {
  int64_t n_pre, n_post, depth, first, n, elements;
  bool fixed, sorted, one, delays, packed;
  std::vector<int32_t> indptr, indices, delay;
  std::vector<T> weight, value, c;
  std::vector<uint32_t> words;
  std::vector<char> mask;

  Case(unsigned seed, bool broken) {
    std::mt19937 rng(seed);
    auto below = [&](int64_t n) {
      return static_cast<int64_t>(rng() % static_cast<uint64_t>(std::max<int64_t>(n, 1)));
    };
    auto real = [&] { return static_cast<T>(static_cast<int64_t>(rng() % 2001) - 1000) / 512; };
    const int64_t sizes[] = {0, 1, 2, 31, 64, 200};
    n_pre = sizes[below(6)], n_post = sizes[below(6)], depth = 1 + below(4), first = below(70), elements = 1 + below(4);
    n = first + n_pre + below(70);
    fixed = below(2), sorted = below(4) != 0, one = below(2), delays = below(2), packed = below(2);
    const int64_t longest = n_post == 0 ? 0 : below(5) == 0 ? 300 : 90;
    indptr = {0};
    for (int64_t i = 0; i < n_pre; ++i) {
      const int64_t length = fixed ? longest / 3 : below(4) == 0 ? 0 : below(longest + 1);
      const size_t begin = indices.size();
      for (int64_t j = 0; j < length; ++j) indices.push_back(static_cast<int32_t>(below(n_post)));
      if (sorted) std::sort(indices.begin() + begin, indices.end());
      indptr.push_back(static_cast<int32_t>(indices.size()));
    }
    if (broken) {  // what nobody has checked, a lie about the order included
      for (int k = 0; k < 20 && !indices.empty(); ++k) indices[below(indices.size())] = static_cast<int32_t>(rng());
      for (int k = 0; k < 5; ++k) indptr[below(indptr.size())] = static_cast<int32_t>(rng());
    }
    for (size_t j = 0; j < indices.size(); ++j) {
      delay.push_back(static_cast<int32_t>(broken ? rng() : below(depth)));
      weight.push_back(real());
    }
    if (one) weight.assign(1, real());
    const int64_t activity = below(3) * 50;
    for (int64_t b = 0; b < elements; ++b) {
      const size_t begin = words.size();
      words.resize(begin + (n + 31) / 32);
      for (int64_t i = 0; i < n; ++i) {
        value.push_back(below(100) < activity ? real() : T(0));
        mask.push_back(below(100) < activity);
        if (value.back() != T(0)) words[begin + i / 32] |= uint32_t{1} << (i % 32);
      }
      for (int64_t k = 0; k < depth * n_post; ++k) c.push_back(real());
    }
  }

  Graph graph(int64_t b) const {
    Graph g;
    g.indptr = fixed ? nullptr : indptr.data();
    g.indices = indices.data();
    g.delay = delays ? delay.data() : nullptr;
    g.n_syn = indices.size();
    g.fanout = fixed ? (n_pre ? static_cast<int64_t>(indices.size()) / n_pre : 0) : -1;
    g.depth = depth;
    g.slot = b % depth;
    g.n_post = static_cast<uint32_t>(n_post);
    return g;
  }
  const T* values(int64_t b) const { return value.data() + b * n + first; }
  Active<T> active(int64_t b) const {
    return {values(b), packed ? words.data() + b * ((n + 31) / 32) : nullptr, first};
  }
  const T* ring(int64_t b) const { return c.data() + b * depth * n_post; }

  // Calls f(b, i, j, place) for every synapse of a good graph.
  template <typename F>
  void each(F&& f) const {
    for (int64_t b = 0; b < elements; ++b) {
      for (int64_t i = 0; i < n_pre; ++i) {
        for (int64_t j = indptr[i]; j < indptr[i + 1]; ++j) {
          const int64_t late = b + (delays ? delay[j] : 0);
          f(b, i, j, late % depth * n_post + indices[j]);
        }
      }
    }
  }
  T w(int64_t j) const { return one ? weight[0] : weight[j]; }
};

template <typename T>
void compare(const std::vector<T>& got, const std::vector<double>& wanted, const char* what, unsigned seed) {
  for (size_t k = 0; k < got.size(); ++k) {
    require(std::fabs(got[k] - wanted[k]) <= 1e-3 * (1 + std::fabs(wanted[k])), what, seed);
  }
}

// `run(pool)` gives the same bits with 1, 2 and 3 threads; returns them.
template <typename F>
auto same(F&& run, std::vector<Pool*> pools, const char* what, unsigned seed) {
  const auto once = run(*pools[0]);
  for (size_t p = 1; p < pools.size(); ++p) {
    const auto again = run(*pools[p]);
    require(once.empty() || std::memcmp(once.data(), again.data(), once.size() * sizeof(once[0])) == 0, what, seed);
  }
  return once;
}

template <typename T>
void check(unsigned seed, bool broken, std::vector<Pool*> pools) {
  const Case<T> k(seed, broken);
  const int64_t ring = k.depth * k.n_post, n_syn = k.indices.size();
  if (broken) pools.resize(1);  // only that nothing is touched that is not there: rows may lie over one another
  for (int64_t outs : {int64_t{1}, k.elements}) {  // shared by all elements, or one for each
    const bool apart = outs == k.elements;
    auto sent = [&](Pool& pool) {
      std::vector<T> out(outs * ring);
      std::vector<Scatter<T>> batch;
      for (int64_t b = 0; b < k.elements; ++b) {
        batch.push_back({out.data() + b % outs * ring, k.values(b), k.active(b), k.weight.data(), k.graph(b)});
      }
      scatter(pool, batch, k.n_pre, k.one, k.sorted, apart);
      return out;
    };
    auto multiplied = [&](Pool& pool, int64_t n_out) {
      std::vector<T> out(outs * n_out);
      std::vector<Outer<T>> batch;
      for (int64_t b = 0; b < k.elements; ++b) {
        batch.push_back({out.data() + b % outs * n_out, k.values(b), k.active(b), k.ring(b), k.graph(b)});
      }
      outer(pool, batch, k.n_pre, n_out == 1);
      return out;
    };
    const auto scattered = same(sent, pools, "scatter differs between threads", seed);
    const auto each = same([&](Pool& p) { return multiplied(p, n_syn); }, pools, "outer differs between threads", seed);
    const auto sum =
        same([&](Pool& p) { return multiplied(p, 1); }, pools, "outer's sum differs between threads", seed);
    if (broken) continue;
    std::vector<double> s(outs * ring), o(outs * n_syn), t(outs);
    k.each([&](int64_t b, int64_t i, int64_t j, int64_t at) {
      const double value = k.values(b)[i];
      s[b % outs * ring + at] += value * k.w(j);
      o[b % outs * n_syn + j] += value * k.ring(b)[at];
      t[b % outs] += value * k.ring(b)[at];
    });
    compare(scattered, s, "scatter is wrong", seed);
    if (n_syn != 1) compare(each, o, "outer is wrong", seed);
    compare(sum, t, "outer's sum is wrong", seed);
  }
  for (bool masked : {false, true}) {
    auto gathered = [&](Pool& pool) {
      std::vector<T> out(k.elements * k.n_pre);
      std::vector<Gather<T>> batch;
      for (int64_t b = 0; b < k.elements; ++b) {
        const bool* mask = reinterpret_cast<const bool*>(k.mask.data()) + b * k.n + k.first;
        batch.push_back({out.data() + b * k.n_pre, k.ring(b), k.weight.data(), masked ? mask : nullptr, k.graph(b)});
      }
      gather(pool, batch, k.n_pre, k.one);
      return out;
    };
    const auto got = same(gathered, pools, "gather differs between threads", seed);
    if (broken) continue;
    std::vector<double> g(k.elements * k.n_pre);
    k.each([&](int64_t b, int64_t i, int64_t j, int64_t at) {
      if (!masked || k.mask[b * k.n + k.first + i]) g[b * k.n_pre + i] += double(k.w(j)) * k.ring(b)[at];
    });
    compare(got, g, "gather is wrong", seed);
  }
}

// Every thread of a pool inside a call that shares work over that pool: nobody may wait for a queued task.
void check_busy_pool() {
  std::atomic<int64_t> sum{0};
  {
    Pool pool(2);
    for (int call = 0; call < 8; ++call) {
      pool.Schedule([&] { parallel_for(pool, 100, [&](int64_t k) { sum += k; }); });
    }
  }
  require(sum == 8 * 4950, "a busy pool lost chunks", 0);
}

// Jobs of a team follow each other at once: every piece of each is done once, before the next begins, even where the
// pool has no thread to spare.
void check_team(const std::vector<Pool*>& pools) {
  for (Pool* pool : pools) {
    Pool busy(1);
    std::atomic<bool> go{false};
    busy.Schedule([&] {
      while (!go) std::this_thread::yield();
    });
    for (Pool* lender : {pool, &busy}) {
      Team team(*lender, true);
      std::vector<int64_t> done(50);  // plain: whoever writes an entry is followed by the caller who reads it
      for (int64_t job = 0; job < 2000; ++job) {
        const int64_t n = job % 50;
        parallel_for(team, n, [&](int64_t k) { done[k] += k + 1; });
        for (int64_t k = 0; k < n; ++k) {
          require(done[k] == k + 1, "a team lost or repeated a piece", job);
          done[k] = 0;
        }
      }
    }
    go = true;
  }
}

}  // namespace

int main() {
  Pool one(1), two(2), three(3);
  const std::vector<Pool*> pools = {&one, &two, &three};
  check_busy_pool();
  check_team(pools);
  for (unsigned seed = 0; seed < 300; ++seed) {
    check<float>(seed, false, pools);
    check<double>(seed, false, pools);
    check<float>(seed, true, {&three});
  }
  std::puts("driver: scatter, gather and outer agree with plain sums, whatever the threads");
}
