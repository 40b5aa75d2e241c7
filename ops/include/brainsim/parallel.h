// Chunks of work shared with the threads of a pool, for work whose result does not depend on who does it.
#ifndef BRAINSIM_PARALLEL_H_
#define BRAINSIM_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace brainsim {

// Synapses (or values looked at) below which a call is done before other threads would have woken up, and of a chunk.
#ifndef BRAINSIM_WORTH_SHARING  // ops/tests/driver.cc takes less
#define BRAINSIM_WORTH_SHARING (1 << 15)
#endif
constexpr int64_t kWorthSharing = BRAINSIM_WORTH_SHARING;

template <typename Pool>
int64_t worth_sharing(const Pool&) {
  return kWorthSharing;
}

// Rows in a block, for rows of about this length: worth sharing, its synapses within the cache, and the same whatever
// the number of threads.
inline int64_t row_block(int64_t length) { return std::clamp<int64_t>(kWorthSharing / length, 1, 4096); }

// A range of chunks from whose front its owner takes, and from whose back the others do.
class Range {
 public:
  void set(int64_t begin, int64_t end) { ends_ = static_cast<uint64_t>(end) << 32 | static_cast<uint64_t>(begin); }

  // A chunk, or -1 where none is left.
  int64_t take(bool front) {
    uint64_t ends = ends_.load(std::memory_order_relaxed);
    for (;;) {
      const int64_t begin = ends & 0xffffffffu, end = ends >> 32;
      if (begin >= end) return -1;
      const uint64_t less = front ? ends + 1 : ends - (uint64_t{1} << 32);
      if (ends_.compare_exchange_weak(ends, less, std::memory_order_relaxed)) return front ? begin : end - 1;
    }
  }

 private:
  alignas(64) std::atomic<uint64_t> ends_{0};
};

// Calls f(k) for k = 0..n-1 < 2^31, in any order, on the caller's thread and on idle ones of `pool`.
//
// Every thread has a range of its own and helps others when it is done: call after call, and step after step, most
// chunks are taken by the thread whose cache has their data.
//
// The caller takes chunks itself and in the end waits only for chunks that another thread has begun, never for tasks
// that are queued: with every thread of the pool in a call like this one, waiting for those would be for ever. A task
// that starts late finds no chunk left and looks at nothing but the shared state.
template <typename Pool, typename F>
void parallel_for(Pool& pool, int64_t n, F&& f) {
  const int64_t threads = std::min<int64_t>(pool.num_threads(), n);
  if (threads < 2) {
    for (int64_t k = 0; k < n; ++k) f(k);
    return;
  }
  struct Progress {
    std::unique_ptr<Range[]> ranges;
    std::mutex mutex;
    std::condition_variable finished;
    int64_t done = 0;
  };
  auto progress = std::make_shared<Progress>();
  progress->ranges.reset(new Range[threads]);
  for (int64_t t = 0; t < threads; ++t) progress->ranges[t].set(n * t / threads, n * (t + 1) / threads);
  auto take = [progress, n, threads, call = &f](int64_t own) {
    int64_t mine = 0;
    for (int64_t t = 0; t < threads; ++t) {
      Range& range = progress->ranges[(own + t) % threads];
      for (int64_t k; (k = range.take(t == 0)) >= 0; ++mine) (*call)(k);
    }
    if (mine == 0) return;
    std::lock_guard<std::mutex> lock(progress->mutex);
    progress->done += mine;
    if (progress->done == n) progress->finished.notify_one();
  };
  for (int64_t t = 1; t < threads; ++t) pool.Schedule([take, t] { take(t); });
  take(0);
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->finished.wait(lock, [&] { return progress->done == n; });
}

}  // namespace brainsim

#endif  // BRAINSIM_PARALLEL_H_
