// Just enough of CUDA to run one block of ops/cuda/kernels.h on the host, a thread to a lane: lanes of a warp wait for
// one another where they vote or add up.
#ifndef BRAINSIM_TESTS_WARP_H_
#define BRAINSIM_TESTS_WARP_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#define __global__
#define __device__

namespace warp {

struct Index {
  unsigned x;
};

// What the lanes of a warp show one another, by turns.
class Board {
 public:
  // Every lane calls; returns what lane `from` has shown, or the votes of all where from < 0.
  double exchange(int lane, double mine, int from) {
    std::unique_lock<std::mutex> lock(mutex_);
    shown_[lane] = mine;
    meet(lock);
    double answer = 0;
    if (from < 0) {
      for (int k = 0; k < 32; ++k) answer += shown_[k] != 0 ? static_cast<double>(uint32_t{1} << k) : 0.0;
    } else {
      answer = shown_[from];
    }
    meet(lock);
    return answer;
  }

 private:
  void meet(std::unique_lock<std::mutex>& lock) {
    const int64_t turn = turn_;
    if (++waiting_ == 32) {
      waiting_ = 0;
      ++turn_;
      met_.notify_all();
    } else {
      met_.wait(lock, [&] { return turn_ != turn; });
    }
  }
  double shown_[32];
  std::mutex mutex_;
  std::condition_variable met_;
  int waiting_ = 0;
  int64_t turn_ = 0;
};

inline thread_local Board* board;
inline std::mutex adding;

}  // namespace warp

inline thread_local warp::Index threadIdx, blockIdx, gridDim;

inline unsigned __ballot_sync(unsigned, bool vote) {
  return static_cast<unsigned>(warp::board->exchange(threadIdx.x % 32, vote, -1));
}
template <typename T>
T __shfl_down_sync(unsigned, T x, int by) {
  const int lane = threadIdx.x % 32;
  return static_cast<T>(warp::board->exchange(lane, x, lane + by < 32 ? lane + by : lane));
}
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
template <typename T>
void atomicAdd(T* to, T x) {
  std::lock_guard<std::mutex> lock(warp::adding);
  *to += x;
}

namespace warp {

// Runs kernel(args...) as a grid of one block of `threads` threads.
template <typename K, typename... A>
void run(unsigned threads, K kernel, const A&... args) {
  std::vector<Board> boards(threads / 32);
  std::vector<std::thread> lanes;
  for (unsigned t = 0; t < threads; ++t) {
    lanes.emplace_back([&, t] {
      threadIdx = {t}, blockIdx = {0}, gridDim = {1}, board = &boards[t / 32];
      kernel(args...);
    });
  }
  for (auto& lane : lanes) lane.join();
}

}  // namespace warp

#endif  // BRAINSIM_TESTS_WARP_H_
