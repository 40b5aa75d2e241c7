// scatter, gather and outer on a GPU; what they compute is written down in brainsim/events/_pure.py.
//
// A warp looks at 32 rows (scatter), or at 32 batch elements of a row (outer), at once and then walks along the
// synapses of the active ones together, neighbouring lanes at neighbouring synapses. Targets are added to atomically,
// so that sums come in any order. All arithmetic of indices is that of the CPU's kernels: batch.h, graph.h, operands.h.
#ifndef BRAINSIM_CUDA_KERNELS_H_
#define BRAINSIM_CUDA_KERNELS_H_

#include <cstdint>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/operands.h"

namespace brainsim::cuda {

#ifndef BRAINSIM_CUDA_THREADS  // ops/tests/driver.cc takes fewer
#define BRAINSIM_CUDA_THREADS 256
#endif
constexpr int kLanes = 32, kThreads = BRAINSIM_CUDA_THREADS;
constexpr unsigned kAll = 0xffffffffu;

__device__ inline int64_t warp() { return (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes; }
__device__ inline int64_t warps() { return int64_t{gridDim.x} * kThreads / kLanes; }
__device__ inline int lane() { return threadIdx.x % kLanes; }

// The operands that the three operators share.
template <typename T>
struct Sent {
  Batch batch;
  Graphs graphs;
  View<const T> value;
  Words words;
  int64_t n_pre, first;

  __device__ Active<T> active(const Axes& at) const { return {value.at(at) + first, words.at(at), first}; }
};

template <typename T>
__device__ T warp_sum(T x) {
  for (int half = kLanes / 2; half > 0; half /= 2) x += __shfl_down_sync(kAll, x, half);
  return x;
}

// The sum over the synapses of a row of f(j, place), on lane 0.
template <bool kDelay, typename T, typename F>
__device__ T row_sum(const Graph& graph, int64_t row, F&& f) {
  T sum = 0;
  for (int64_t j = graph.begin(row) + lane(), end = graph.end(row); j < end; j += kLanes) {
    graph.template deliver<kDelay>(graph.target(j), j, graph.now(), [&](int64_t place) { sum += f(j, place); });
  }
  return warp_sum(sum);
}

template <bool kDelay, typename T>
__global__ void scatter_rows(Sent<T> sent, View<const T> weight, View<T> out) {
  const int64_t groups = (sent.n_pre + kLanes - 1) / kLanes, all = groups * sent.batch.size();
  for (int64_t k = warp(); k < all; k += warps()) {
    const Axes at = sent.batch.at(k / groups);
    const Graph graph = sent.graphs.at(at);
    const Active<T> active = sent.active(at);
    const int64_t first_row = k % groups * kLanes, mine = first_row + lane();
    const bool one = weight.size() == 1;
    const T* w = weight.at(at);
    T* to = out.at(at);
    for (unsigned bits = __ballot_sync(kAll, mine < sent.n_pre && active.has(mine)); bits != 0; bits &= bits - 1) {
      const int64_t row = first_row + __ffs(bits) - 1;
      const T amount = active.value[row];
      for (int64_t j = graph.begin(row) + lane(), end = graph.end(row); j < end; j += kLanes) {
        graph.template deliver<kDelay>(graph.target(j), j, graph.now(),
                                       [&](int64_t place) { atomicAdd(to + place, amount * w[one ? 0 : j]); });
      }
    }
  }
}

template <bool kDelay, typename T>
__global__ void gather_rows(Batch batch, Graphs graphs, View<const T> c, View<const T> weight, View<const bool> mask,
                            View<T> out, int64_t n_pre, int64_t first) {
  for (int64_t k = warp(); k < n_pre * batch.size(); k += warps()) {
    const Axes at = batch.at(k / n_pre);
    const int64_t row = k % n_pre;
    if (mask.size() != 0 && !mask.at(at)[first + row]) continue;
    const T *from = c.at(at), *w = weight.at(at);
    const bool one = weight.size() == 1;
    const T sum =
        row_sum<kDelay, T>(graphs.at(at), row, [&](int64_t j, int64_t p) { return w[one ? 0 : j] * from[p]; });
    if (lane() == 0) out.at(at)[first + row] = sum;
  }
}

template <bool kDelay, typename T>
__global__ void outer_rows(Sent<T> sent, View<const T> c, View<T> out) {
  const int64_t elements = sent.batch.size();
  const bool one = out.size() == 1;
  for (int64_t row = warp(); row < sent.n_pre; row += warps()) {
    for (int64_t begin = 0; begin < elements; begin += kLanes) {
      const int64_t mine = begin + lane();
      const bool on = mine < elements && sent.active(sent.batch.at(mine)).has(row);
      for (unsigned bits = __ballot_sync(kAll, on); bits != 0; bits &= bits - 1) {
        const Axes at = sent.batch.at(begin + __ffs(bits) - 1);
        const Graph graph = sent.graphs.at(at);
        const T amount = sent.active(at).value[row];
        const T* from = c.at(at);
        T* to = out.at(at);
        const T sum = row_sum<kDelay, T>(graph, row, [&](int64_t j, int64_t p) {
          if (!one) atomicAdd(to + j, amount * from[p]);  // rows of different elements may overlap
          return one ? from[p] : T(0);
        });
        if (one && lane() == 0) atomicAdd(to, amount * sum);
      }
    }
  }
}

}  // namespace brainsim::cuda

#endif  // BRAINSIM_CUDA_KERNELS_H_
