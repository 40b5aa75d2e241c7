// scatter, gather and outer on a GPU, with weights that places share; which place sees a unit is the CPU's arithmetic
// (windows.h).
//
// A warp walks along the runs of an active unit, neighbouring lanes at neighbouring channels.
#ifndef BRAINSIM_CUDA_CONVOLVED_KERNELS_H_
#define BRAINSIM_CUDA_CONVOLVED_KERNELS_H_

#include "brainsim/windows.h"
#include "kernels.h"

namespace brainsim::cuda {

inline Shares convolved_shares(const Windows& windows) {
  const Window& window = windows.window();
  Shares shares = Shares::of(window.kh * window.kw * window.out());
  shares.threads = kLanes;
  return shares;
}

// Calls f(place, weight) for this lane's synapses of unit `row`.
template <typename F>
__device__ void for_shared(const Window& window, int64_t row, F&& f) {
  const int64_t n = window.out();
  window.runs(static_cast<uint32_t>(row), [&](int64_t place, int64_t from) {
    for (int64_t i = lane(); i < n; i += kLanes) f(window.now + place + i, from + i);
  });
}

template <typename T>
__global__ void convolved_scatter_rows(const __grid_constant__ Sent<T, Windows> sent,
                                       const __grid_constant__ View<const T> weight,
                                       const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Window window = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const bool one = weight.size() == 1;
    const T* w = weight.at(at);
    T* to = out.at(at);
    for_rows(
        sent.shares, sent.rows.n_pre(), [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_shared(window, row,
                     [&](int64_t place, int64_t j) { atomicAdd(to + place, amount * constant(w + (one ? 0 : j))); });
        });
  }
}

template <typename T>
__global__ void convolved_gather_rows(const __grid_constant__ Batch batch, const __grid_constant__ Windows windows,
                                      const __grid_constant__ View<const T> c,
                                      const __grid_constant__ View<const T> weight,
                                      const __grid_constant__ View<const bool> mask,
                                      const __grid_constant__ View<T> out, int rows_at_once) {
  for (int64_t b = blockIdx.y; b < batch.size(); b += gridDim.y) {
    const auto at = batch.at(b);
    const Window window = windows.at(at);
    const T *from = c.at(at), *w = weight.at(at);
    const bool* wanted = mask.size() != 0 ? mask.at(at) + windows.first() : nullptr;
    const bool one = weight.size() == 1;
    T* to = out.at(at) + windows.first();
    for_rows(
        Shares{rows_at_once, kLanes}, windows.n_pre(), [&](int64_t row) { return wanted == nullptr || wanted[row]; },
        [&](int64_t row) {
          T sum = 0;
          for_shared(window, row,
                     [&](int64_t place, int64_t j) { sum += constant(w + (one ? 0 : j)) * constant(from + place); });
          sum = warp_sum(sum);
          if (lane() == 0) to[row] = sum;
        });
  }
}

template <typename T>
__global__ void convolved_outer_rows(const __grid_constant__ Sent<T, Windows> sent,
                                     const __grid_constant__ View<const T> c, const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Window window = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const bool one = out.size() == 1;
    const T* from = c.at(at);
    T *to = out.at(at), sum = 0;
    for_rows(
        sent.shares, sent.rows.n_pre(), [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_shared(window, row, [&](int64_t place, int64_t j) {
            const T x = amount * constant(from + place);
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

}  // namespace brainsim::cuda

#endif  // BRAINSIM_CUDA_CONVOLVED_KERNELS_H_
