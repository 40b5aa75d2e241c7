// scatter, gather, outer and append on a GPU; what they compute is written down in brainsim/events/_pure.py.
//
// A block looks at some rows at once, one for each of its threads, and those of them that are active are then walked
// along together, neighbouring threads at neighbouring synapses, four synapses of each under way at a time. Sums are
// made atomically and come in any order. All arithmetic of indices is that of the CPU's kernels: batch.h, graph.h,
// operands.h.
#ifndef BRAINSIM_CUDA_KERNELS_H_
#define BRAINSIM_CUDA_KERNELS_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/operands.h"

namespace brainsim::cuda {

#ifndef BRAINSIM_CUDA_THREADS  // ops/tests/driver.cc takes fewer
#define BRAINSIM_CUDA_THREADS 256
#define BRAINSIM_CUDA_MOST_THREADS 1024
#endif
constexpr int kLanes = 32;
constexpr int kThreads = BRAINSIM_CUDA_THREADS;           // of a block
constexpr int kMostThreads = BRAINSIM_CUDA_MOST_THREADS;  // where one block does it all
constexpr int kAtOnce = 4;                                // synapses of a thread
constexpr unsigned kAll = 0xffffffffu;

__device__ inline int lane() { return threadIdx.x % kLanes; }

template <typename T>
__device__ T warp_sum(T x) {
  for (int half = kLanes / 2; half > 0; half /= 2) x += __shfl_down_sync(kAll, x, half);
  return x;
}

// How rows are shared out: a block looks at `rows` <= kThreads of them and walks along each with `threads` threads,
// a power of two in kLanes..kThreads.
struct Shares {
  int rows, threads;

  // Rows of about `length` synapses: few of them where they are long, so that there are blocks enough.
  static Shares of(int64_t length) {
    Shares s{kThreads, kLanes};
    while (s.rows > kLanes && s.rows * length > 1 << 16) s.rows /= 2;
    while (s.threads < kThreads && s.threads * kAtOnce < length) s.threads *= 2;
    return s;
  }
};

// The operands that scatter and outer share; `Rows` is `Graphs` or `Plans`.
template <typename T, typename Rows>
struct Sent {
  Batch batch;
  Rows rows;
  View<const T> value;
  Words words;
  Shares shares;

  template <typename At>
  __device__ Active<T> active(const At& at) const {
    return {value.at(at) + rows.first(), words.at(at), rows.first()};
  }
};

// Calls f(row) with every thread of a share, for every row in n_pre of this block for which has(row) holds.
template <typename Has, typename F>
__device__ void for_rows(Shares shares, int64_t n_pre, Has&& has, F&& f) {
  __shared__ int found;
  __shared__ int64_t rows[kThreads];
  for (int64_t from = int64_t{blockIdx.x} * shares.rows; from < n_pre; from += int64_t{gridDim.x} * shares.rows) {
    const int64_t mine = from + threadIdx.x;
    const bool on = static_cast<int>(threadIdx.x) < shares.rows && mine < n_pre && has(mine);
    if (threadIdx.x == 0) found = 0;
    const int n = __syncthreads_count(on);
    if (n == 0) continue;
    if (on) rows[atomicAdd(&found, 1)] = mine;
    __syncthreads();
    for (int k = threadIdx.x / shares.threads; k < n; k += kThreads / shares.threads) f(rows[k]);
    __syncthreads();
  }
}

// Calls add(j, place, late(early(j), place)) for this thread's synapses of a row. In stages: whatever kAtOnce of them
// have to read is under way before any of it is waited for.
template <bool kDelay, typename T, typename Early, typename Late, typename Add>
__device__ void for_synapses(const Graph& graph, int64_t row, int threads, Early&& early, Late&& late, Add&& add) {
  const int64_t end = graph.end(row), now = graph.now(), first = graph.begin(row) + threadIdx.x % threads;
  graph.with_targets([&](auto targets) {
    for (int64_t j = first; j < end; j += kAtOnce * threads) {
      uint32_t target[kAtOnce];
      int32_t delay[kAtOnce];
      int64_t place[kAtOnce];
      T x[kAtOnce];
      for (int u = 0; u < kAtOnce; ++u) {
        const int64_t i = std::min(j + u * threads, end - 1);
        target[u] = targets[i];
        delay[u] = kDelay ? constant(graph.delay + i) : 0;
        x[u] = early(i);
      }
      for (int u = 0; u < kAtOnce; ++u) {
        const bool on = j + u * threads < end && target[u] < graph.n_post;
        place[u] = on ? (kDelay ? graph.ring(delay[u]) * static_cast<int64_t>(graph.n_post) : now) + target[u] : -1;
      }
      for (int u = 0; u < kAtOnce; ++u) x[u] = place[u] >= 0 ? late(x[u], place[u]) : T(0);
      for (int u = 0; u < kAtOnce; ++u) {
        if (place[u] >= 0) add(j + u * threads, place[u], x[u]);
      }
    }
  });
}

template <bool kDelay, typename T>
__global__ void scatter_rows(const __grid_constant__ Sent<T, Graphs> sent, const __grid_constant__ View<const T> weight,
                             const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Graph graph = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const bool one = weight.size() == 1;
    const T* w = weight.at(at);
    T* to = out.at(at);
    for_rows(
        sent.shares, sent.rows.n_pre(), [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_synapses<kDelay, T>(
              graph, row, sent.shares.threads, [&](int64_t j) { return constant(w + (one ? 0 : j)); },
              [&](T w, int64_t) { return amount * w; }, [&](int64_t, int64_t place, T x) { atomicAdd(to + place, x); });
        });
  }
}

// A warp has a row to itself.
template <bool kDelay, typename T>
__global__ void gather_rows(const __grid_constant__ Batch batch, const __grid_constant__ Graphs graphs,
                            const __grid_constant__ View<const T> c, const __grid_constant__ View<const T> weight,
                            const __grid_constant__ View<const bool> mask, const __grid_constant__ View<T> out,
                            int rows_at_once) {
  for (int64_t b = blockIdx.y; b < batch.size(); b += gridDim.y) {
    const auto at = batch.at(b);
    const Graph graph = graphs.at(at);
    const T *from = c.at(at), *w = weight.at(at);
    const bool* wanted = mask.size() != 0 ? mask.at(at) + graphs.first() : nullptr;
    const bool one = weight.size() == 1;
    T* to = out.at(at) + graphs.first();
    for_rows(
        Shares{rows_at_once, kLanes}, graphs.n_pre(), [&](int64_t row) { return wanted == nullptr || wanted[row]; },
        [&](int64_t row) {
          T sum = 0;
          for_synapses<kDelay, T>(
              graph, row, kLanes, [&](int64_t j) { return constant(w + (one ? 0 : j)); },
              [&](T w, int64_t place) { return w * constant(from + place); }, [&](int64_t, int64_t, T x) { sum += x; });
          sum = warp_sum(sum);
          if (lane() == 0) to[row] = sum;
        });
  }
}

template <bool kDelay, typename T>
__global__ void outer_rows(const __grid_constant__ Sent<T, Graphs> sent, const __grid_constant__ View<const T> c,
                           const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Graph graph = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const bool one = out.size() == 1;
    const T* from = c.at(at);
    T *to = out.at(at), sum = 0;
    for_rows(
        sent.shares, sent.rows.n_pre(), [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_synapses<kDelay, T>(
              graph, row, sent.shares.threads, [&](int64_t) { return amount; },
              [&](T amount, int64_t place) { return amount * constant(from + place); },
              [&](int64_t j, int64_t, T x) {
                if (one) {
                  sum += x;
                } else {
                  atomicAdd(to + j, x);
                }
              });
        });
    if (one) {
      sum = warp_sum(sum);
      if (lane() == 0 && sum != T(0)) atomicAdd(to, sum);
    }
  }
}

// Sums over the lanes up to each.
__device__ inline int warp_sums(int x) {
  for (int by = 1; by < kLanes; by *= 2) {
    const int other = __shfl_up_sync(kAll, x, by);
    if (lane() >= by) x += other;
  }
  return x;
}

// A block for each list: its warps take stretches of the words, and write when they know how many events come before.
template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    append_events(const __grid_constant__ Batch batch, const __grid_constant__ View<const T> value,
                  const __grid_constant__ Words words, const __grid_constant__ View<int32_t> list,
                  const __grid_constant__ View<int32_t> length, bool many) {
  constexpr int kWarps = kMostThreads / kLanes;
  __shared__ int upto[kLanes];  // events of the warps up to each
  const int warp = threadIdx.x / kLanes;
  const int64_t n = value.size(), n_words = (n + 31) / 32, turns = (n_words + kMostThreads - 1) / kMostThreads;
  const int64_t first = warp * turns * kLanes + lane();
  for (int64_t b = blockIdx.x; b < batch.size(); b += gridDim.x) {
    const auto at = batch.at(b);
    const Active<T> active(value.at(at), words.at(at), 0);
    auto word = [&](int64_t turn) {
      const int64_t w = first + turn * kLanes;
      return w < n_words ? active.word(w, n) : 0u;
    };
    auto times = [&](int64_t unit) { return many ? multiplicity(constant(active.value + unit)) : 1; };
    auto events = [&](int64_t turn) {
      uint32_t bits = word(turn);
      if (!many) return __popc(bits);
      int sum = 0;
      for (; bits != 0; bits &= bits - 1) sum += times(32 * (first + turn * kLanes) + __ffs(bits) - 1);
      return sum;
    };
    int mine = 0;
    for (int64_t turn = 0; turn < turns; ++turn) mine += events(turn);
    const int of_warp = warp_sums(mine);
    if (lane() == kLanes - 1) upto[warp] = of_warp;
    __syncthreads();
    if (warp == 0) {
      const int sums = warp_sums(lane() < kWarps ? upto[lane()] : 0);
      if (lane() < kWarps) upto[lane()] = sums;
    }
    __syncthreads();
    const int64_t old = *length.at(at), all = old + upto[kWarps - 1], room = list.size();
    int64_t m = old + (warp > 0 ? upto[warp - 1] : 0);
    const int64_t none = m == old + upto[warp] ? turns : 0;
    int32_t* to = list.at(at);
    for (int64_t turn = none; turn < turns; ++turn) {
      uint32_t bits = word(turn);
      const int here = events(turn), sums = warp_sums(here);
      const int64_t unit = 32 * (first + turn * kLanes);
      for (int64_t k = m + sums - here; bits != 0; bits &= bits - 1) {
        const int64_t i = unit + __ffs(bits) - 1, end = k + times(i);
        for (; k < end; ++k) {
          if (k >= 0 && k < room) to[k] = static_cast<int32_t>(i);
        }
      }
      m += __shfl_sync(kAll, sums, kLanes - 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      *length.at(at) = static_cast<int32_t>(std::min<int64_t>(all, std::numeric_limits<int32_t>::max()));
    }
  }
}

}  // namespace brainsim::cuda

#endif  // BRAINSIM_CUDA_KERNELS_H_
