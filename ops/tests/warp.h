// Just enough of CUDA to run one block of ops/cuda/kernels.h on the host, a thread to a lane: lanes of a warp wait for
// one another where they vote or add up, and all threads of the block at its barriers.
#ifndef BRAINSIM_TESTS_WARP_H_
#define BRAINSIM_TESTS_WARP_H_

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(threads)
#define __shared__ static  // blocks run one after the other

namespace warp {

struct Index {
  unsigned x, y;
};

// Threads that wait for one another, by turns.
class Meeting {
 public:
  explicit Meeting(int size) : size_(size) {}

  // Every thread calls; show() is called by one at a time before any look() is.
  template <typename Show, typename Look>
  auto meet(Show&& show, Look&& look) {
    std::unique_lock<std::mutex> lock(mutex_);
    show();
    wait(lock);
    auto answer = look();
    wait(lock);
    return answer;
  }

 private:
  void wait(std::unique_lock<std::mutex>& lock) {
    const int64_t turn = turn_;
    if (++waiting_ == size_) {
      waiting_ = 0;
      ++turn_;
      met_.notify_all();
    } else {
      met_.wait(lock, [&] { return turn_ != turn; });
    }
  }
  int size_;
  std::mutex mutex_;
  std::condition_variable met_;
  int waiting_ = 0;
  int64_t turn_ = 0;
};

// The lanes of a warp, and what they show one another: all of them or those of a half, as the mask says.
struct Warp {
  Meeting all{32}, halves[2] = {Meeting(16), Meeting(16)};
  double shown[32];

  Meeting& of(unsigned mask, int lane) { return mask == ~0u ? all : halves[lane / 16]; }
  double exchange(unsigned mask, int lane, double mine, int from) {
    return of(mask, lane).meet([&] { shown[lane] = mine; }, [&] { return shown[from]; });
  }
};

struct Block {
  explicit Block(int threads) : meeting(threads), warps(threads / 32) {}
  Meeting meeting;
  std::vector<Warp> warps;
  int votes = 0, met = 0;
};

inline thread_local Block* block;
inline std::mutex adding;

}  // namespace warp

inline thread_local warp::Index threadIdx, blockIdx, gridDim;

inline warp::Warp& this_warp() { return warp::block->warps[threadIdx.x / 32]; }
template <typename T>
T __shfl_down_sync(unsigned mask, T x, int by) {
  const int lane = threadIdx.x % 32;
  return static_cast<T>(this_warp().exchange(mask, lane, x, lane + by < 32 ? lane + by : lane));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, int by, int width = 32) {
  const int lane = threadIdx.x % 32;
  return static_cast<T>(this_warp().exchange(mask, lane, x, lane % width >= by ? lane - by : lane));
}
template <typename T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
  const int lane = threadIdx.x % 32;
  return static_cast<T>(this_warp().exchange(mask, lane, x, lane / width * width + from));
}
inline void __syncwarp(unsigned mask) { __shfl_sync(mask, 0, 0, 16); }
inline int __syncthreads_count(bool vote) {
  warp::Block& b = *warp::block;
  return b.meeting.meet(
      [&] {
        b.votes = b.met == 0 ? vote : b.votes + vote;
        b.met = (b.met + 1) % static_cast<int>(32 * b.warps.size());
      },
      [&] { return b.votes; });
}
inline void __syncthreads() { __syncthreads_count(false); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
template <typename T>
T atomicAdd(T* to, T x) {
  std::lock_guard<std::mutex> lock(warp::adding);
  const T before = *to;
  *to += x;
  return before;
}
namespace warp {

// Runs kernel(args...) as a grid of one block of `threads` threads.
template <typename K, typename... A>
void run(unsigned threads, K kernel, const A&... args) {
  Block all(static_cast<int>(threads));
  std::vector<std::thread> lanes;
  for (unsigned t = 0; t < threads; ++t) {
    lanes.emplace_back([&, t] {
      threadIdx = {t, 0}, blockIdx = {0, 0}, gridDim = {1, 1}, block = &all;
      kernel(args...);
    });
  }
  for (auto& lane : lanes) lane.join();
}

}  // namespace warp

#endif  // BRAINSIM_TESTS_WARP_H_
