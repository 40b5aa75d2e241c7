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

// Calls f(k) for k = 0..n-1, in any order, on the caller's thread and on idle ones of `pool`.
//
// The caller takes chunks itself and in the end waits only for chunks that another thread has begun, never for tasks
// that are queued: with every thread of the pool in a call like this one, waiting for those would be for ever. A task
// that starts late finds no chunk left and looks at nothing but the shared state.
template <typename Pool, typename F>
void parallel_for(Pool& pool, int64_t n, F&& f) {
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), n) - 1;
  if (helpers < 1) {
    for (int64_t k = 0; k < n; ++k) f(k);
    return;
  }
  struct Progress {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable finished;
    int64_t done = 0;
  };
  auto progress = std::make_shared<Progress>();
  auto take = [progress, n, call = &f] {
    int64_t mine = 0;
    for (int64_t k; (k = progress->next.fetch_add(1, std::memory_order_relaxed)) < n; ++mine) (*call)(k);
    if (mine == 0) return;
    std::lock_guard<std::mutex> lock(progress->mutex);
    progress->done += mine;
    if (progress->done == n) progress->finished.notify_one();
  };
  for (int64_t h = 0; h < helpers; ++h) pool.Schedule([take] { take(); });
  take();
  std::unique_lock<std::mutex> lock(progress->mutex);
  progress->finished.wait(lock, [&] { return progress->done == n; });
}

}  // namespace brainsim

#endif  // BRAINSIM_PARALLEL_H_
