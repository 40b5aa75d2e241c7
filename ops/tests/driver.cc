// Runs the operators' loops on random graphs outside XLA, for the sanitizers: `make sanitize`. Sums are compared with
// plain ones in double precision, and bit by bit between numbers of threads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <thread>
#include <vector>

#define BRAINSIM_FILED_ROOM 0  // too little at times
#include "brainsim/convolution.h"
#include "brainsim/drawn.h"
#include "brainsim/filed.h"
#include "brainsim/gather.h"
#include "brainsim/operands.h"
#include "brainsim/outer.h"
#include "brainsim/row_program.h"
#include "brainsim/scatter.h"
#include "brainsim/team.h"
#include "warp.h"

#define BRAINSIM_CUDA_THREADS 64
#define BRAINSIM_CUDA_MOST_THREADS 128
#include "../cuda/convolved_kernels.h"
#include "../cuda/drawn_kernels.h"
#include "../cuda/kernels.h"

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

// No room behind the last entry, which would hide reads of it from the sanitizers.
template <typename... Vectors>
void tighten(Vectors&... vectors) {
  ((vectors = Vectors(vectors.begin(), vectors.end())), ...);
}

// The indices in `width` bytes each and, where `stretched`, how many of each row lie in each block: at random if
// `broken`.
std::vector<unsigned char> stored_in(int64_t width, const std::vector<int32_t>& indptr,
                                     const std::vector<int32_t>& indices, int64_t n_post, bool stretched, bool broken) {
  std::vector<unsigned char> stored;
  for (uint32_t target : indices) {
    for (int k = 0; k < width; ++k) stored.push_back(static_cast<unsigned char>(target >> 8 * k));
  }
  if (stretched) {
    const size_t begin = stored.size(), n_pre = indptr.size() - 1;
    stored.resize(begin + n_pre * blocks_of(n_post));
    for (size_t i = 0; i < n_pre && !broken; ++i) {
      unsigned char* const lengths = stored.data() + begin + i * blocks_of(n_post);
      for (int64_t j = indptr[i]; j < indptr[i + 1]; ++j) ++lengths[indices[j] >> block_bits(n_post)];
    }
    for (size_t k = begin; k < stored.size() && broken; ++k) stored[k] = static_cast<unsigned char>(7919 * k >> 3);
  }
  if (width == 3) stored.push_back(0);
  return stored;
}

template <typename T>
struct Case {
  int64_t n_pre, n_post, depth, first, n, elements, width;
  bool fixed, sorted, one, delays, packed, stretched;
  std::vector<int32_t> indptr, indices, delay;
  std::vector<T> weight, value, c;
  std::vector<uint32_t> words;
  std::vector<char> mask;
  std::vector<unsigned char> stored;

  Case(unsigned seed, bool broken) {
    std::mt19937 rng(seed);
    auto below = [&](int64_t n) {
      return static_cast<int64_t>(rng() % static_cast<uint64_t>(std::max<int64_t>(n, 1)));
    };
    auto real = [&] { return static_cast<T>(static_cast<int64_t>(rng() % 2001) - 1000) / T(300); };
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
    width = 2 + below(3), stretched = width == 3 && !fixed && (sorted || broken) && below(2);
    stored = stored_in(width, indptr, indices, n_post, stretched, broken);
    for (size_t j = 0; j < indices.size(); ++j) {
      delay.push_back(static_cast<int32_t>(broken ? rng() : below(depth)));
      weight.push_back(real());
    }
    if (one) weight.assign(1, real());
    tighten(indptr, indices, delay, weight, stored);
    const int64_t activity = below(3) * 50;
    for (int64_t b = 0; b < elements; ++b) {
      const size_t begin = words.size();
      words.resize(begin + (n + 31) / 32);
      for (int64_t i = 0; i < n; ++i) {
        value.push_back(below(100) >= activity ? T(0) : below(4) ? real() : T(1 + below(3)));
        mask.push_back(below(100) < activity);
        if (value.back() != T(0)) words[begin + i / 32] |= uint32_t{1} << (i % 32);
      }
      for (int64_t k = 0; k < depth * n_post; ++k) c.push_back(real());
    }
  }

  Graph graph(int64_t b) const {
    Graph g;
    g.indptr = fixed ? nullptr : indptr.data();
    g.indices = stored.data();
    g.width = width;
    if (stretched) g.stretches = stored.data() + width * indices.size();
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

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// `run(pool)` gives the same bits with 1, 2 and 3 threads; returns them.
template <typename F>
auto same(F&& run, std::vector<Pool*> pools, const char* what, unsigned seed) {
  const auto once = run(*pools[0]);
  for (size_t p = 1; p < pools.size(); ++p) {
    const auto again = run(*pools[p]);
    require(same_bits(once, again), what, seed);
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

struct Array {
  void* data;
  std::vector<int64_t> dims;
  const std::vector<int64_t>& dimensions() const { return dims; }
  void* untyped_data() const { return data; }
};

// A GPU's lists, which have an event already and of which some are too short.
template <typename T>
void check_lists(const Case<T>& k, const Batch& batch, const View<const T>& v, const Words& packed, unsigned seed,
                 bool many) {
  const int64_t room = seed % 3 * k.n / 2 + 1, n_words = (k.n + 31) / 32;
  std::vector<int32_t> list(k.elements * room, -1), length(k.elements, 1);
  warp::run(cuda::kMostThreads, cuda::append_events<T>, batch, v, packed,
            View<int32_t>(Array{list.data(), {k.elements, room}}, batch),
            View<int32_t>(Array{length.data(), {k.elements}}, batch), many);
  for (int64_t b = 0; b < k.elements; ++b) {
    std::vector<int32_t> listed(room, -1);
    int32_t n = 1;
    append_active(Active<T>(k.values(b) - k.first, k.packed ? k.words.data() + b * n_words : nullptr, 0), k.n,
                  listed.data(), room, &n, many);
    require(n == length[b], "a GPU's list has another length", seed);
    require(std::equal(listed.begin(), listed.end(), list.begin() + b * room), "a GPU's list differs", seed);
  }
}

// The kernels of a GPU, run by threads of the host.
template <typename T>
void check_warps(unsigned seed, bool broken) {
  Case<T> k(seed, broken);
  if (k.n_pre > 64) return;  // a lane that waits for others is slow
  const int64_t n_syn = k.indices.size(), ring = k.depth * k.n_post, n_words = (k.n + 31) / 32;
  std::vector<int32_t> slots;
  for (int64_t b = 0; b < k.elements; ++b) slots.push_back(static_cast<int32_t>(b));
  const Array value{k.value.data(), {k.elements, k.n}}, weight{k.weight.data(), {1, k.one ? 1 : n_syn}};
  const Array words{k.words.data(), {k.packed ? k.elements : 1, k.packed ? n_words : 0}};
  const Array slot{slots.data(), {k.elements}}, delay{k.delay.data(), {1, k.delays ? n_syn : 0}};
  const Array indptr{k.indptr.data(), {1, k.fixed ? 0 : k.n_pre + 1}},
      indices{k.stored.data(), {1, k.width == 3 ? static_cast<int64_t>(k.stored.size()) : n_syn}};
  const Array c{k.c.data(), {k.elements, k.depth, k.n_post}}, mask{k.mask.data(), {k.elements, k.n}};
  Batch batch(1);
  batch.with(value).with(slot);
  int64_t b = 0;
  batch.each([&](const Axes& at) { require(at[0] == batch.at(b++)[0], "a batch element is elsewhere", seed); });
  for (b = 0; b < k.elements; ++b) {
    std::vector<char> listed(k.n_pre);
    k.active(b).each(0, k.n_pre, [&](int64_t i) { listed[i] = 1; });
    for (int64_t i = 0; i < k.n_pre; ++i) require(listed[i] == k.active(b).has(i), "a row is active or not", seed);
  }
  const Graphs graphs(slot, delay, indptr, indices, batch, k.n_pre, k.graph(0).fanout, k.first, k.depth, k.n_post,
                      k.width == 3 ? 1 : k.width, k.stretched);
  require(graphs.fit(k.n), "lengths do not fit", seed);
  const View<const T> v(value, batch), w(weight, batch), from(c, batch);
  const View<const bool> rows(mask, batch);
  cuda::Shares shares = cuda::Shares::of(graphs.length());
  if (seed % 2) shares = {32, 64};
  const Words packed(words, batch, k.n);
  const cuda::Sent<T, Graphs> sent{batch, graphs, v, packed, shares};
  auto run = [&](auto kernel, const auto&... args) { warp::run(cuda::kThreads, kernel, args...); };
  for (int64_t outs : {int64_t{1}, k.elements}) {
    std::vector<T> scattered(outs * ring), each(outs * n_syn), sum(outs);
    const View<T> to(Array{scattered.data(), {outs, k.depth, k.n_post}}, batch);
    if (ring > 0) run(k.delays ? cuda::scatter_rows<true, T> : cuda::scatter_rows<false, T>, sent, w, to);
    auto outer = k.delays ? cuda::outer_rows<true, T> : cuda::outer_rows<false, T>;
    run(outer, sent, from, View<T>(Array{each.data(), {outs, n_syn}}, batch));
    run(outer, sent, from, View<T>(Array{sum.data(), {outs, 1}}, batch));
    if (broken) continue;
    std::vector<double> s(outs * ring), o(outs * n_syn), t(outs);
    k.each([&](int64_t b, int64_t i, int64_t j, int64_t at) {
      const double value = k.values(b)[i];
      s[b % outs * ring + at] += value * k.w(j);
      o[b % outs * n_syn + j] += value * k.ring(b)[at];
      t[b % outs] += value * k.ring(b)[at];
    });
    compare(scattered, s, "a GPU's scatter is wrong", seed);
    if (n_syn != 1) compare(each, o, "a GPU's outer is wrong", seed);
    compare(sum, t, "a GPU's sum is wrong", seed);
  }
  std::vector<T> gathered(k.elements * k.n);
  const View<T> to(Array{gathered.data(), {k.elements, k.n}}, batch);
  run(k.delays ? cuda::gather_rows<true, T> : cuda::gather_rows<false, T>, batch, graphs, from, w, rows, to,
      shares.rows);

  if (seed % 6 < 2) check_lists(k, batch, v, packed, seed, seed % 4 < 2);  // four warps wait long for one another
  if (broken) return;
  std::vector<double> g(k.elements * k.n);
  k.each([&](int64_t b, int64_t i, int64_t j, int64_t at) {
    const int64_t unit = b * k.n + k.first + i;
    if (k.mask[unit]) g[unit] += double(k.w(j)) * k.ring(b)[at];
  });
  compare(gathered, g, "a GPU's gather is wrong", seed);
}

// The operators on drawn rows. Any tables do: what is drawn of them is compared with the Python twin elsewhere.
template <typename T>
void check_drawn(unsigned seed, const std::vector<Pool*>& pools) {
  std::mt19937 rng(seed);
  auto below = [&](int64_t n) { return static_cast<int64_t>(rng() % static_cast<uint64_t>(std::max<int64_t>(n, 1))); };
  auto real = [&] { return static_cast<T>(static_cast<int64_t>(rng() % 2001) - 1000) / 512; };
  const int64_t pres[] = {0, 1, 40}, targets[] = {2, 70, 900}, elements = 1 + below(4), depth = 1 + below(3);
  std::vector<uint32_t> tables(kLogTable + kNormalTable);
  for (auto& x : tables) x = rng();
  Rows rows{};
  rows.first = below(70), rows.n_pre = pres[below(3)], rows.n = targets[below(3)];
  rows.kind = below(3), rows.law = below(3);
  rows.twin = below(2) ? kNone : below(90) - 45;
  rows.start = below(5), rows.step = 1 + below(3);
  rows.k = rows.kind == kSome ? 0 : rows.kind == kDistinct ? below(rows.n) : below(300);
  rows.span = rows.kind == kSome ? 1 + below(rows.n) : kDraws;
  rows.segments = ((rows.kind == kSome ? rows.n : rows.k) + rows.span - 1) / rows.span;
  rows.multiplier = rng(), rows.shift = 24 + below(9);
  for (rows.bits = 6; rows.n > int64_t{1} << rows.bits;) ++rows.bits;
  const int64_t n_post = rows.start + rows.step * (rows.n - 1) + 1 + below(9), ring = depth * n_post;
  const int64_t n = rows.first + rows.n_pre + below(40), n_words = (n + 31) / 32, n_weight = rows.n_weight();
  const bool packed = below(2);
  std::vector<T> value(elements * n), c(elements * ring), weight = {real(), real()};
  std::vector<uint32_t> words(elements * n_words);
  std::vector<char> mask(n);
  for (auto& m : mask) m = below(2);
  for (auto& x : c) x = real();
  for (int64_t k = 0; k < elements * n; ++k) {
    value[k] = below(2) ? real() : T(0);
    if (value[k] != T(0)) words[k / n * n_words + k % n / 32] |= uint32_t{1} << (k % n % 32);
  }
  std::vector<Rows> of;
  for (int64_t b = 0; b < elements; ++b) {
    of.push_back(rows);
    of[b].seed = Seed{static_cast<uint32_t>(rng()), static_cast<uint32_t>(b)};
    of[b].now = b % depth * n_post + rows.start;
    of[b].logs = tables.data(), of[b].normals = tables.data() + kLogTable;
  }
  auto values = [&](int64_t b) { return value.data() + b * n + rows.first; };
  auto active = [&](int64_t b) {
    return Active<T>{values(b), packed ? words.data() + b * n_words : nullptr, rows.first};
  };
  // Calls f(b, i, place, x) for every synapse, whose targets are good ones.
  auto each = [&](auto&& f) {
    for (int64_t b = 0; b < elements; ++b) {
      for (int64_t i = 0; i < rows.n_pre; ++i) {
        std::vector<uint32_t> seen;
        auto visit = [&](uint32_t to, T x) {
          require(to < rows.n && (rows.twin == kNone || to != i + rows.twin), "a target is not allowed", seed);
          seen.push_back(to);
          f(b, i, of[b].place(to), x);
        };
        if (rows.law == kOne) of[b].for_row<T, false>(i, 0, rows.segments, visit);
        if (rows.law != kOne) of[b].for_row<T, true>(i, 0, rows.segments, visit);
        if (rows.kind != kSome) require(static_cast<int64_t>(seen.size()) == rows.k, "a row has another length", seed);
        std::sort(seen.begin(), seen.end());
        const bool twice = std::adjacent_find(seen.begin(), seen.end()) != seen.end();
        require(rows.kind == kRepeated || !twice, "a target is drawn twice", seed);
      }
    }
  };
  auto w = [&](T x) { return rows.law == kOne ? double(weight[0]) : weight[0] + double(weight[1]) * x; };
  for (int64_t outs : {int64_t{1}, elements}) {
    auto sent = [&](Pool& pool) {
      std::vector<T> out(outs * ring);
      std::vector<DrawnScatter<T>> batch;
      for (int64_t b = 0; b < elements; ++b) {
        batch.push_back({out.data() + b % outs * ring, values(b), active(b), weight.data(), of[b]});
      }
      drawn_scatter(pool, batch, outs == elements);
      return out;
    };
    std::vector<double> s(outs * ring);
    each([&](int64_t b, int64_t i, int64_t at, T x) { s[b % outs * ring + at] += values(b)[i] * w(x); });
    compare(same(sent, pools, "drawn scatter differs between threads", seed), s, "drawn scatter is wrong", seed);
  }
  auto multiplied = [&](Pool& pool) {
    std::vector<T> out(n_weight);
    for (int64_t b = 0; b < elements; ++b) {
      drawn_outer(pool, DrawnOuter<T>{out.data(), values(b), active(b), c.data() + b * ring, of[b]});
    }
    return out;
  };
  auto gathered = [&](Pool& pool) {
    std::vector<T> out(elements * rows.n_pre);
    const bool* wanted = reinterpret_cast<const bool*>(mask.data()) + rows.first;
    for (int64_t b = 0; b < elements; ++b) {
      T* to = out.data() + b * rows.n_pre;
      drawn_gather(pool, DrawnGather<T>{to, c.data() + b * ring, weight.data(), b % 2 ? wanted : nullptr, of[b]});
    }
    return out;
  };
  std::vector<double> o(n_weight), g(elements * rows.n_pre);
  each([&](int64_t b, int64_t i, int64_t at, T x) {
    const double arrived = c[b * ring + at];
    o[0] += values(b)[i] * arrived;
    if (n_weight == 2) o[1] += double(values(b)[i]) * x * arrived;
    if (b % 2 == 0 || mask[rows.first + i]) g[b * rows.n_pre + i] += w(x) * arrived;
  });
  compare(same(multiplied, pools, "drawn outer differs between threads", seed), o, "drawn outer is wrong", seed);
  compare(same(gathered, pools, "drawn gather differs between threads", seed), g, "drawn gather is wrong", seed);
  if (seed % 10 > 1 || (rows.n_pre > 1 && rows.segments > 9)) return;  // a lane that waits for others is slow

  // the same by the kernels of a GPU
  std::vector<int32_t> slots;
  std::vector<uint32_t> seeds;
  for (int64_t b = 0; b < elements; ++b) {
    slots.push_back(static_cast<int32_t>(b % depth));
    seeds.insert(seeds.end(), {of[b].seed.a, of[b].seed.b});
  }
  const Array sent_values{value.data(), {elements, n}}, slot{slots.data(), {elements}};
  Batch batch(1);
  batch.with(sent_values);
  const Plans plans(slot, Array{seeds.data(), {elements, 2}}, Array{tables.data(), {1, int64_t(tables.size())}}, batch,
                    rows, depth, n_post);
  require(plans.fit(n), "a plan does not fit", seed);
  const cuda::Shares shares = seed % 2 ? cuda::Shares{32, 64} : cuda::drawn_shares(rows);
  const cuda::Sent<T, Plans> of_rows{
      batch, plans, View<const T>(sent_values, batch),
      Words(Array{words.data(), {packed ? elements : 1, packed ? n_words : 0}}, batch, n), shares};
  const View<const T> weights(Array{weight.data(), {1, n_weight}}, batch);
  const View<const T> from(Array{c.data(), {elements, depth, n_post}}, batch);
  auto run = [&](auto kernel, const auto&... args) { warp::run(cuda::kThreads, kernel, args...); };
  std::vector<double> s(ring), gathered_one(elements * n);
  std::vector<T> scattered(ring), summed(n_weight), gathered_all(elements * n);
  each([&](int64_t b, int64_t i, int64_t at, T x) {
    s[at] += values(b)[i] * w(x);
    gathered_one[b * n + rows.first + i] += mask[rows.first + i] ? w(x) * c[b * ring + at] : 0.0;
  });
  auto of_law = [&](auto one, auto drawn) { return rows.law == kOne ? one : drawn; };
  run(of_law(cuda::drawn_scatter_rows<false, T>, cuda::drawn_scatter_rows<true, T>), of_rows, weights,
      View<T>(Array{scattered.data(), {1, depth, n_post}}, batch));
  run(of_law(cuda::drawn_outer_rows<false, T>, cuda::drawn_outer_rows<true, T>), of_rows, from,
      View<T>(Array{summed.data(), {1, n_weight}}, batch));
  run(of_law(cuda::drawn_gather_rows<false, T>, cuda::drawn_gather_rows<true, T>), batch, plans, from, weights,
      View<const bool>(Array{mask.data(), {1, n}}, batch), View<T>(Array{gathered_all.data(), {elements, n}}, batch),
      shares.rows);
  compare(scattered, s, "a GPU's drawn scatter is wrong", seed);
  compare(summed, o, "a GPU's drawn outer is wrong", seed);
  compare(gathered_all, gathered_one, "a GPU's drawn gather is wrong", seed);
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

// A trial runs every step once, with one thread and with several by turns, and goes on with what was faster.
void check_trial(const std::vector<Pool*>& pools) {
  uint64_t program = 0;
  for (Pool* pool : pools) {
    for (bool alone_is_faster : {true, false}) {
      ++program;
      for (int call = 0; call < 3; ++call) {  // what one call found out serves the next
        Trial trial(program);
        require(trial.alone() == (call > 0 && alone_is_faster && pool->num_threads() > 1) || pool->num_threads() == 1,
                "a trial forgot its verdict", call);
        Team team(*pool, true, trial.alone());
        int64_t sum = 0, steps = 100, shared = 0;
        for (int64_t t = 0; t < steps; ++t) {
          trial.step(team, [&] {
            const bool slow = (team.num_threads() > 1) == alone_is_faster;
            const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(slow ? 400 : 20);
            std::atomic<int64_t> done{0};
            parallel_for(team, 8, [&](int64_t k) { done += k; });
            sum += done;
            shared += team.num_threads() > 1;
            while (std::chrono::steady_clock::now() < until) {
            }
          });
        }
        require(sum == steps * 28, "a trial lost or repeated a step", call);
        if (pool->num_threads() < 2) continue;
        require(alone_is_faster ? shared < steps / 4 : shared > steps * 3 / 4, "a trial goes on with the slower", call);
      }
    }
  }
}

// The search for a part finds the place wherever it is guessed to be.
void check_search(unsigned seed) {
  std::mt19937 rng(seed);
  auto below = [&](uint32_t n) { return static_cast<int64_t>(rng() % n); };
  std::vector<uint32_t> x(below(200));
  for (auto& each : x) each = below(300);
  std::sort(x.begin(), x.end());
  const auto n = static_cast<int64_t>(x.size());
  for (int64_t window : {16, 32, 64}) {
    const auto bound = static_cast<uint32_t>(below(310));
    const int64_t begin = below(n + 1), end = begin + below(n - begin + 1), guess = below(2 * n + 1) - n / 2;
    const auto wanted = std::lower_bound(x.begin() + begin, x.begin() + end, bound) - x.begin();
    require(first_from(x.data(), begin, end, bound, guess, window) == wanted, "a part begins elsewhere", seed);
  }
}

// Rows long enough for several parts, in ascending order, one target in fifty out of range: the bits of plain loops.
template <typename T>
void check_parts(unsigned seed, const std::vector<Pool*>& pools) {
  std::mt19937 rng(seed);
  auto below = [&](uint32_t n) { return static_cast<int32_t>(rng() % n); };
  auto real = [&] { return below(20) ? static_cast<T>(below(2001) - 1000) / T(300) : -T(0); };
  const int64_t width = 2 + seed % 3, lengths[] = {50, 200, 700};
  const bool one = seed / 3 % 2, delays = seed / 6 % 2;
  const int64_t n_pre = 24, n_post = 100 + below(3000), length = lengths[below(3)], depth = 1 + 2 * delays;
  std::vector<int32_t> indptr = {0}, indices, delay, rows;
  std::vector<unsigned char> stored;
  std::unique_ptr<bool[]> mask(new bool[n_pre]);
  for (int64_t i = 0; i < n_pre; ++i) {
    const size_t begin = indices.size();
    for (int64_t k = length + below(20); k > 0; --k) indices.push_back(below(50) ? below(n_post) : n_post + below(9));
    std::sort(indices.begin() + begin, indices.end());
    indptr.push_back(indices.size());
    mask[i] = below(4) != 0;
    if (mask[i]) rows.push_back(i);
  }
  stored = stored_in(width, indptr, indices, n_post, false, false);
  for (size_t j = 0; j < indices.size(); ++j) delay.push_back(below(depth));
  tighten(indptr, indices, delay, stored);
  std::vector<T> value(n_pre), weight(one ? 1 : indices.size()), start(depth * n_post), added(indices.size());
  for (auto* v : {&value, &weight, &start, &added}) {
    for (T& x : *v) x = real();
  }
  for (int64_t i = 0; i < n_pre; ++i) value[i] = mask[i] ? T(1) + value[i] * value[i] : T(0);
  Graph graph{};
  graph.indptr = indptr.data();
  graph.indices = stored.data();
  graph.width = width;
  graph.delay = delays ? delay.data() : nullptr;
  graph.n_syn = indices.size();
  graph.fanout = -1;
  graph.depth = depth;
  graph.slot = below(depth);
  graph.n_post = static_cast<uint32_t>(n_post);
  std::vector<T> scattered = start, gathered(n_pre), multiplied = added;
  for (int64_t i : rows) {
    T sum[4] = {};
    for (int64_t j = indptr[i]; j < indptr[i + 1]; ++j) {
      const int64_t begin = indptr[i] + (j - indptr[i]) / kLine * kLine;
      const int64_t fours = (std::min<int64_t>(begin + kLine, indptr[i + 1]) - begin) & -4;
      T& chain = sum[j - begin < fours ? (j - begin) % 4 : 0];
      if (indices[j] >= n_post) continue;
      const int64_t at = (graph.slot + (delays ? delay[j] : 0)) % depth * n_post + indices[j];
      scattered[at] += one ? value[i] * weight[0] : value[i] * weight[j];
      chain += one ? start[at] : weight[j] * start[at];
      multiplied[j] += value[i] * start[at];
    }
    const T all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    gathered[i] = one ? weight[0] * all : all;
  }
  for (Pool* pool : pools) {
    std::vector<T> out = start, of_rows(n_pre), of_synapses = added;
    const Active<T> active{value.data(), nullptr, 0};
    Team team(*pool, true);
    scatter_one(team, Scatter<T>{out.data(), value.data(), active, weight.data(), graph}, rows, one, true);
    require(same_bits(out, scattered), "scatter in parts is not the plain loop", seed);
    gather(*pool, std::vector<Gather<T>>{{of_rows.data(), start.data(), weight.data(), mask.get(), graph}}, n_pre, one);
    require(same_bits(of_rows, gathered), "gather is not four plain chains", seed);
    outer(*pool, std::vector<Outer<T>>{{of_synapses.data(), value.data(), active, start.data(), graph}}, n_pre, false);
    require(same_bits(of_synapses, multiplied), "outer is not the plain loop", seed);
  }
}

// Filed by blocks and added up later, or not filed for want of room: the same bits as at once. Rows in order are copied
// stretch by stretch.
template <typename T>
void check_filed(unsigned seed, bool broken, const std::vector<Pool*>& pools) {
  std::mt19937 rng(seed);
  auto below = [&](uint32_t n) { return static_cast<int32_t>(rng() % n); };
  const int64_t n_pre = 1 + below(300), n_post = 1 + below(200000), crowd = below(2) ? n_post : 1 + n_post / 9;
  const int64_t width = n_post > 1 << 16 ? 3 + below(2) : 2 + below(3);
  const bool one = below(2), graded = below(2), stretched = width == 3 && below(4);
  std::vector<int32_t> indptr = {0}, indices, rows;
  for (int64_t i = 0; i < n_pre; ++i) {
    const size_t begin = indices.size();
    for (int32_t k = below(below(4) ? 40 : 200); k > 0; --k) {
      indices.push_back(stretched || below(100) ? below(crowd) : static_cast<int32_t>(rng()));
    }
    if (stretched) std::sort(indices.begin() + begin, indices.end());
    indptr.push_back(indices.size());
    if (below(2)) rows.push_back(i);
  }
  if (width != 4) {  // as no more bytes hold them
    for (int32_t& target : indices) target &= (1 << 8 * width) - 1;
  }
  auto stored = stored_in(width, indptr, indices, n_post, stretched, broken);
  if (stretched && !broken && n_pre > 1) stored[width * indices.size() + blocks_of(n_post)] = 255;  // a row not counted
  if (broken) {  // what nobody has checked
    for (int k = 0; k < 5; ++k) indptr[below(indptr.size())] = below(indices.size() + 9);
  }
  tighten(indptr, stored);
  std::vector<T> value(n_pre), weight(one ? 1 : indices.size()), start(n_post);
  for (auto* v : {&value, &weight, &start}) {
    for (T& x : *v) x = static_cast<T>(below(2001) - 1000) / T(300);
  }
  Graph graph{};
  graph.indptr = indptr.data();
  graph.indices = stored.data();
  graph.width = width;
  if (stretched) graph.stretches = stored.data() + width * indices.size();
  graph.n_syn = indices.size();
  graph.fanout = -1;
  graph.depth = 1;
  graph.n_post = static_cast<uint32_t>(n_post);
  auto scatter_into = [&](std::vector<T>& out) {
    const T* values = graded ? value.data() : nullptr;
    return Scatter<T>{out.data(), values, {values, nullptr, 0}, weight.data(), graph};
  };
  std::vector<T> wanted = start;
  scatter_one(*pools[0], scatter_into(wanted), rows, one, false);
  for (Pool* pool : pools) {
    Team team(*pool, true);
    Filed filed;
    std::vector<T> got = start;
    for (int step = 0; step < 2; ++step) {  // lists are used again
      got = start;
      const auto s = scatter_into(got);
      if (filed.file_all(team, s, rows, one)) {
        require(got == start && filed.pending(), "filing wrote", seed);
        parallel_for(team, filed.blocks(), [&](int64_t block) { filed.deliver(got.data(), n_post, block); });
        filed.done();
      } else {
        require(got == start && !filed.pending(), "filing without room wrote", seed);
        scatter_one(team, s, rows, one, false);
      }
    }
    require(broken || same_bits(got, wanted), "filed is not as at once", seed);
  }
}

// Any graph whatever, filed.
template <typename T>
void check_filed_as_is(unsigned seed, bool broken, Pool* pool) {
  const Case<T> k(seed, broken);
  if (k.n_post == 0) return;
  Team team(*pool, true);
  for (int64_t b = 0; b < k.elements; ++b) {
    Graph graph = k.graph(b);
    graph.delay = nullptr;
    graph.depth = 1;
    graph.slot = 0;
    std::vector<int32_t> rows;
    std::vector<T> got(k.n_post), wanted(k.n_post);
    const Scatter<T> s{got.data(), k.values(b), k.active(b), k.weight.data(), graph};
    list_rows(s.active, k.n_pre, rows);
    Filed filed;
    if (filed.file_all(team, s, rows, k.one)) {
      for (int64_t block = 0; block < filed.blocks(); ++block) filed.deliver(got.data(), k.n_post, block);
      Scatter<T> at_once = s;
      at_once.out = wanted.data();
      scatter_one(team, at_once, rows, k.one, false);
      require(broken || same_bits(got, wanted), "filed is not as at once", seed);
    }
  }
}

// Convolutions of random shapes, by events and densely.
template <typename T>
void check_convolved(unsigned seed, const std::vector<Pool*>& pools) {
  std::mt19937 rng(seed);
  auto below = [&](int64_t n) { return static_cast<int64_t>(rng() % static_cast<uint64_t>(n)); };
  auto real = [&] { return static_cast<T>(below(2001) - 1000) / 512; };
  const int64_t outs[] = {1, 3, 8, 12, 16, 17, 32}, share[] = {0, 5, 40, 100};
  Window s{};
  s.h = 1 + below(9), s.w = 1 + below(9), s.ci = 1 + below(5), s.co = outs[below(7)];
  s.kh = 1 + below(3), s.kw = 1 + below(3);
  s.groups = 1 + below(3), s.ci *= s.groups, s.co *= s.groups;
  s.sy = 1 + below(2), s.sx = 1 + below(2), s.py = below(4), s.px = below(4), s.dy = 1 + below(2), s.dx = 1 + below(2);
  s.oh = 1 + below((s.h + s.py) / s.sy + 1), s.ow = 1 + below((s.w + s.px) / s.sx + 1);  // the border behind is free
  s.first = below(70);
  const int64_t elements = 1 + below(20), depth = 1 + below(3), ring = depth * s.n_post(), activity = share[below(4)];
  const int64_t n = s.first + s.n_pre() + below(40), n_words = (n + 31) / 32;
  const bool packed = below(2), one = below(4) == 0, by_gpu = elements * s.n_pre() < 100;  // the rest would take long
  const int64_t n_weight = one ? 1 : s.n_weight();
  require(s.good(), "a window is no window", seed);
  std::vector<T> value(elements * n), c(elements * ring), weight(n_weight);
  std::vector<uint32_t> words(elements * n_words);
  std::vector<char> mask(n);
  for (auto& m : mask) m = below(100) < activity;
  for (auto& x : c) x = real();
  for (auto& x : weight) x = real();
  for (int64_t k = 0; k < elements * n; ++k) {
    value[k] = below(100) < activity ? real() : T(0);
    if (value[k] != T(0)) words[k / n * n_words + k % n / 32] |= uint32_t{1} << (k % n % 32);
  }
  std::vector<Window> of(elements, s);
  for (int64_t b = 0; b < elements; ++b) of[b].now = b % depth * s.n_post();
  auto values = [&](int64_t b) { return value.data() + b * n + s.first; };
  auto active = [&](int64_t b) { return Active<T>{values(b), packed ? words.data() + b * n_words : nullptr, s.first}; };
  auto batch = [&](std::vector<T>& out, int64_t n_outs, int64_t size, auto from) {
    std::vector<Convolved<T>> all;
    for (int64_t b = 0; b < elements; ++b) {
      all.push_back({out.data() + b % n_outs * size, values(b), active(b), from(b), of[b]});
    }
    return all;
  };
  // Calls f(b, unit, weight, place) for every synapse.
  auto each = [&](auto&& f) {
    for (int64_t ty = 0; ty < s.oh; ++ty) {
      for (int64_t tx = 0; tx < s.ow; ++tx) {
        for (int64_t o = 0; o < s.co; ++o) {
          for (int64_t k = 0; k < s.kh * s.kw * s.in(); ++k) {
            const int64_t i = k % s.in(), tap = k / s.in();
            const int64_t y = ty * s.sy + tap / s.kw * s.dy - s.py, x = tx * s.sx + tap % s.kw * s.dx - s.px;
            if (y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
            const int64_t unit = (y * s.w + x) * s.ci + o / s.out() * s.in() + i;
            for (int64_t b = 0; b < elements; ++b) {
              f(b, unit, one ? 0 : k * s.co + o, of[b].now + (ty * s.ow + tx) * s.co + o);
            }
          }
        }
      }
    }
  };
  std::vector<int32_t> slots(elements);
  for (int64_t b = 0; b < elements; ++b) slots[b] = b % depth;
  Array slot{slots.data(), {elements}}, given{value.data(), {elements, n}};
  Batch axes(1);
  axes.with(slot).with(given);
  const Windows windows(slot, axes, s, true, depth, s.n_post());
  require(windows.fit(n) && windows.fit_weight(n_weight), "lengths of a convolution do not fit", seed);
  const View<const T> weights(Array{weight.data(), {1, n_weight}}, axes);
  const View<const T> arrived(Array{c.data(), {elements, depth, s.n_post()}}, axes);
  const Words packed_words(Array{words.data(), {packed ? elements : 1, packed ? n_words : 0}}, axes, n);
  const cuda::Sent<T, Windows> sent_by_gpu{axes, windows, View<const T>(given, axes), packed_words,
                                           cuda::convolved_shares(windows)};
  auto run = [&](auto kernel, const auto&... args) { warp::run(cuda::kThreads, kernel, args...); };
  for (int64_t n_outs : {int64_t{1}, elements}) {
    auto sent = [&](Pool& pool) {
      std::vector<T> out(n_outs * ring);
      convolved_scatter(pool, batch(out, n_outs, ring, [&](int64_t) { return weight.data(); }), one,
                        n_outs == elements);
      return out;
    };
    auto multiplied = [&](Pool& pool) {
      std::vector<T> out(n_outs * n_weight);
      convolved_outer(pool, batch(out, n_outs, n_weight, [&](int64_t b) { return c.data() + b * ring; }), one);
      return out;
    };
    std::vector<double> to(n_outs * ring), of_weights(n_outs * n_weight);
    each([&](int64_t b, int64_t unit, int64_t j, int64_t at) {
      to[b % n_outs * ring + at] += double(values(b)[unit]) * weight[j];
      of_weights[b % n_outs * n_weight + j] += double(values(b)[unit]) * c[b * ring + at];
    });
    compare(same(sent, pools, "a convolution differs between threads", seed), to, "a convolution is wrong", seed);
    compare(same(multiplied, pools, "sums of a convolution differ between threads", seed), of_weights,
            "sums of a convolution are wrong", seed);
    if (!by_gpu) continue;
    std::vector<T> out(n_outs * ring), sums(n_outs * n_weight);
    run(cuda::convolved_scatter_rows<T>, sent_by_gpu, weights,
        View<T>(Array{out.data(), {n_outs, depth, s.n_post()}}, axes));
    run(cuda::convolved_outer_rows<T>, sent_by_gpu, arrived, View<T>(Array{sums.data(), {n_outs, n_weight}}, axes));
    compare(out, to, "a GPU's convolution is wrong", seed);
    compare(sums, of_weights, "a GPU's sums of a convolution are wrong", seed);
  }
  auto gathered = [&](Pool& pool) {
    std::vector<T> out(elements * s.n_pre());
    std::vector<ConvolvedBack<T>> all;
    const bool* wanted = reinterpret_cast<const bool*>(mask.data()) + s.first;
    for (int64_t b = 0; b < elements; ++b) {
      T* const to = out.data() + b * s.n_pre();
      all.push_back({to, c.data() + b * ring, weight.data(), b % 2 ? wanted : nullptr, of[b]});
    }
    convolved_gather(pool, all, one);
    return out;
  };
  std::vector<double> back(elements * s.n_pre());
  each([&](int64_t b, int64_t unit, int64_t j, int64_t at) {
    if (b % 2 == 0 || mask[s.first + unit]) back[b * s.n_pre() + unit] += double(weight[j]) * c[b * ring + at];
  });
  compare(same(gathered, pools, "a convolution back differs between threads", seed), back,
          "a convolution back is wrong", seed);
  if (!by_gpu) return;
  std::vector<T> came_back(elements * n);
  const View<const bool> rows(Array{mask.data(), {1, n}}, axes);
  run(cuda::convolved_gather_rows<T>, axes, windows, arrived, weights, rows,
      View<T>(Array{came_back.data(), {elements, n}}, axes), sent_by_gpu.shares.rows);
  std::vector<double> masked(elements * n);
  each([&](int64_t b, int64_t unit, int64_t j, int64_t at) {
    if (mask[s.first + unit]) masked[b * n + s.first + unit] += double(weight[j]) * c[b * ring + at];
  });
  compare(came_back, masked, "a GPU's convolution back is wrong", seed);
}

// What a compiled row program is to `RowsCall`: w <- a w + near far.
template <typename T>
void row_kernel(void* const* scalars, void* const* near, void* const* far, void* const* synapses, const int32_t* other,
                const int32_t* order, int64_t row, int64_t begin, int64_t end, int64_t) {
  const T a = *static_cast<T*>(scalars[0]), x = static_cast<T*>(near[0])[row];
  for (int64_t k = begin; k < end; ++k) {
    T& w = static_cast<T*>(synapses[0])[order == nullptr ? k : order[k]];
    w = a * w + x * static_cast<T*>(far[0])[other[k]];
  }
}

// Programs over the synapses of some rows, in place, and what they were brought back from a log.
template <typename T>
void check_rows(unsigned seed, const std::vector<Pool*>& pools) {
  std::mt19937 rng(seed);
  const int64_t n_rows = 1 + rng() % 40, n_units = 1 + rng() % 50;
  const bool column = seed % 3 == 0;
  std::vector<int32_t> indptr(1, 0), other, rows;
  for (int64_t i = 0; i < n_rows; ++i) indptr.push_back(indptr.back() + rng() % 70 * (rng() % 4 != 0));
  const int64_t n = indptr.back();
  std::vector<int32_t> order(n);
  for (int64_t k = 0; k < n; ++k) order[k] = k;
  std::shuffle(order.begin(), order.end(), rng);
  for (int64_t k = 0; k < n; ++k) other.push_back(rng() % n_units);
  for (int64_t i = 0; i < n_rows; ++i) {
    if (rng() % 2) rows.push_back(i);
  }
  auto drawn = [&](int64_t size) {
    std::vector<T> out(size);
    for (T& x : out) x = T(rng() % 1000) / 1000;
    return out;
  };
  std::vector<T> a = drawn(1), near = drawn(n_rows), far = drawn(n_units), start = drawn(n);
  std::vector<T> expected = start;
  for (int32_t i : rows) {
    for (int32_t k = indptr[i]; k < indptr[i + 1]; ++k) {
      T& w = expected[column ? order[k] : k];
      w = a[0] * w + near[i] * far[other[k]];
    }
  }
  for (Pool* pool : pools) {
    Team team(*pool, true);
    std::vector<T> w = start, log(n);
    void *scalars[] = {a.data()}, *nears[] = {near.data()}, *fars[] = {far.data()}, *synapses[] = {w.data()};
    RowsCall call{};
    call.kernel = row_kernel<T>;
    call.indptr = indptr.data();
    call.other = other.data();
    call.order = column ? order.data() : nullptr;
    call.n_entries = n;
    call.n_values = 1;
    call.width = sizeof(T);
    call.lanes = 1;
    call.scalars = scalars;
    call.near = nears;
    call.far = fars;
    call.synapses = synapses;
    const Past keep{indptr.data(), call.order, n, false}, undo{indptr.data(), call.order, n, true};
    const int32_t used = keep.move(rows, 0, w.data(), log.data());
    run_rows(team, call, rows);
    compare(w, std::vector<double>(expected.begin(), expected.end()), "a row program is wrong", seed);
    require(undo.move(rows, used, log.data(), w.data()) == 0 && w == start, "a row program is not undone", seed);
    const Past small{indptr.data(), call.order, used - 1, false};
    std::vector<T> none;
    require(used == 0 || small.move(rows, 0, w.data(), none.data()) == used, "a full log is not told", seed);
  }
}

}  // namespace

int main() {
  Pool one(1), two(2), three(3);
  const std::vector<Pool*> pools = {&one, &two, &three};
  check_busy_pool();
  check_team(pools);
  check_trial(pools);
  for (unsigned seed = 0; seed < 300; ++seed) {
    check<float>(seed, false, pools);
    check<double>(seed, false, pools);
    check<float>(seed, true, {&three});
    seed % 2 ? check_filed<float>(seed, false, pools) : check_filed<double>(seed, false, pools);
    seed % 2 ? check_filed<double>(seed, true, {&three}) : check_filed<float>(seed, true, {&two});
    for (unsigned k = 0; k < 20; ++k) check_search(20 * seed + k);
    if (seed < 120) seed / 12 % 2 ? check_parts<float>(seed, pools) : check_parts<double>(seed, pools);
    check_filed_as_is<float>(seed, false, &three);
    check_filed_as_is<double>(seed, true, &two);
    check_drawn<float>(seed, pools);
    check_drawn<double>(seed, pools);
    seed % 2 ? check_rows<float>(seed, pools) : check_rows<double>(seed, pools);
    seed % 2 ? check_convolved<float>(seed, pools) : check_convolved<double>(seed, pools);
  }
  for (unsigned seed = 0; seed < 24; ++seed) {
    seed % 2 ? check_warps<float>(seed, seed % 3 == 0) : check_warps<double>(seed, seed % 3 == 0);
  }
  std::puts(
      "driver: scatter, gather and outer, stored, drawn and convolved, and row programs agree with plain loops, "
      "whatever the threads; so "
      "do a "
      "GPU's");
}
