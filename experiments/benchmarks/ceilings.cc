// What this machine can do at best, for the operators' cost table (ceilings.py): every function returns nanoseconds.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace {

double now() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<uint32_t> random_below(uint32_t n, size_t count, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<uint32_t> out(count);
  for (auto& x : out) x = static_cast<uint32_t>((static_cast<uint64_t>(rng()) * n) >> 32);
  return out;
}

// The time of work(t) on `threads` threads that start together.
template <typename F>
double together(int threads, F&& work) {
  std::vector<std::thread> pool;
  const double start = now();
  for (int t = 1; t < threads; ++t) pool.emplace_back([&, t] { work(t); });
  work(0);
  for (auto& t : pool) t.join();
  return now() - start;
}

}  // namespace

extern "C" {

// Per float of x[i] += 1 over an array of n floats, every thread its share: 8 bytes of traffic each.
double stream(int64_t n, int64_t passes, int threads) {
  std::vector<float> x(n);
  const double ns = together(threads, [&](int t) {
    const int64_t begin = n * t / threads, end = n * (t + 1) / threads;
    for (int64_t p = 0; p < passes; ++p) {
      for (int64_t i = begin; i < end; ++i) x[i] += 1.0f;
      asm volatile("" ::: "memory");
    }
  });
  return ns / (static_cast<double>(n) * passes);
}

// Per read of a random float of n, `count` of them on each thread, none of which waits for another.
double random_reads(uint32_t n, int64_t count, int threads) {
  std::vector<float> x(n, 1.0f);
  std::vector<std::vector<uint32_t>> at;
  for (int t = 0; t < threads; ++t) at.push_back(random_below(n, count, t));
  std::vector<float> sums(threads);
  const double ns = together(threads, [&](int t) {
    float a = 0, b = 0, c = 0, d = 0;
    const uint32_t* from = at[t].data();
    for (int64_t k = 0; k + 4 <= count; k += 4) {
      a += x[from[k]];
      b += x[from[k + 1]];
      c += x[from[k + 2]];
      d += x[from[k + 3]];
    }
    sums[t] = a + b + c + d;
  });
  return sums[0] < 0 ? 0 : ns / (static_cast<double>(count) * threads);
}

// Per addition to a random float of n, the places and the amounts read one after another from memory: what any
// propagation over stored synapses does. Every thread has its own target.
double scatter(uint32_t n, int64_t count, int threads) {
  std::vector<std::vector<uint32_t>> at;
  for (int t = 0; t < threads; ++t) at.push_back(random_below(n, count, t));
  std::vector<std::vector<float>> amount(threads, std::vector<float>(count, 1.0f)), x(threads, std::vector<float>(n));
  const double ns = together(threads, [&](int t) {
    float* out = x[t].data();
    const float* w = amount[t].data();
    const uint32_t* to = at[t].data();
    for (int64_t k = 0; k < count; ++k) out[to[k]] += w[k];
  });
  return ns / (static_cast<double>(count) * threads);
}

// Per synapse of rows of k synapses at random places among n synapses: a target and a weight each, read and added up.
double rows(int64_t n, int64_t k, int64_t count, int threads) {
  std::vector<uint32_t> target(n, 1);
  std::vector<float> weight(n, 1.0f);
  std::vector<std::vector<uint32_t>> row;
  for (int t = 0; t < threads; ++t) row.push_back(random_below(static_cast<uint32_t>(n / k), count, t));
  std::vector<float> sums(threads);
  const double ns = together(threads, [&](int t) {
    float sum = 0;
    for (uint32_t r : row[t]) {
      const int64_t begin = r * k;
      for (int64_t j = begin; j < begin + k; ++j) sum += weight[j] * static_cast<float>(target[j]);
    }
    sums[t] = sum;
  });
  return sums[0] < 0 ? 0 : ns / (static_cast<double>(count) * k * threads);
}

// Per hand-over of work to a sleeping thread and back.
double wake(int64_t count) {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t asked = 0, done = 0;
  std::thread helper([&] {
    std::unique_lock<std::mutex> lock(mutex);
    for (int64_t k = 1; k <= count; ++k) {
      changed.wait(lock, [&] { return asked == k; });
      done = k;
      changed.notify_all();
    }
  });
  const double start = now();
  {
    std::unique_lock<std::mutex> lock(mutex);
    for (int64_t k = 1; k <= count; ++k) {
      asked = k;
      changed.notify_all();
      changed.wait(lock, [&] { return done == k; });
    }
  }
  const double ns = now() - start;
  helper.join();
  return ns / count;
}
}
