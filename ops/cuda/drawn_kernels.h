// scatter, gather and outer on a GPU, on rows that are drawn when they are needed; what is drawn is written down in
// brainsim/events/_draws.py and made by the CPU's integers (rows.h, random.h).
//
// Sixteen threads draw a segment together, four words of each batch of 64 each, as the generator gives them.
#ifndef BRAINSIM_CUDA_DRAWN_KERNELS_H_
#define BRAINSIM_CUDA_DRAWN_KERNELS_H_

#include "brainsim/plans.h"
#include "kernels.h"

namespace brainsim::cuda {

// `threads` of a row go along its segments sixteen at a time.
inline Shares drawn_shares(const Rows& rows) {
  Shares shares = Shares::of(rows.length());
  shares.threads = kLanes;
  while (shares.threads < kThreads && shares.threads < kCalls * rows.segments) shares.threads *= 2;
  return shares;
}

// The sixteen threads that draw together.
struct Drawing {
  unsigned mask;   // of their lanes
  int mine;        // number of this thread
  uint32_t* keys;  // 2 kRounds words of shared memory

  __device__ Drawing() : mask(0xffffu << lane() / kCalls * kCalls), mine(lane() % kCalls) {
    __shared__ uint32_t all[kThreads / kCalls][2 * kRounds];
    keys = all[threadIdx.x / kCalls];
  }

  // Sums of x[0], then x[1], ... over the threads up to this one, and of everything.
  __device__ uint32_t sums(uint32_t* x) const {
    uint32_t before = 0;
    for (int q = 0; q < 4; ++q) {
      for (int by = 1; by < kCalls; by *= 2) {
        const uint32_t other = __shfl_up_sync(mask, x[q], by, kCalls);
        if (mine >= by) x[q] += other;
      }
      x[q] += before;
      before = __shfl_sync(mask, x[q], kCalls - 1, kCalls);
    }
    return before;
  }
};

// x of this thread's four synapses of a batch.
template <typename T>
__device__ void basis(const Rows& rows, uint32_t call, uint32_t segment, uint32_t row, T* x) {
  uint32_t words[4];
  philox(rows.seed, call, segment, row, kWeights, words);
  for (int q = 0; q < 4; ++q) {
    x[q] = rows.law == kUniform ? uniform_of<T>(words[q])
                                : normal_of<T>(with_sign(words[q], normal_piece(words[q]).value(rows.normals)));
  }
}

// Calls f(place, x) for this thread's synapses of a row, which `threads` threads go along; x is 0 unless weights are
// drawn.
template <bool kDrawn, typename T, typename F>
__device__ void for_drawn(const Rows& rows, uint32_t row, int threads, F&& f) {
  const Drawing drawing;
  const auto gap = rows.gap();
  const int64_t own = rows.own(row);
  const bool holed = rows.kind != kSome && rows.holed(own);
  const uint32_t choice = rows.n - holed, segments = rows.segments;
  uint32_t words[4], to[4];
  T x[4] = {};
  if (rows.kind == kDistinct) {
    philox(rows.seed, drawing.mine, 0, row, kKeys, words);
    __syncwarp(drawing.mask);  // the keys of the row before are no longer read
    drawing.keys[drawing.mine] = words[0];
    drawing.keys[drawing.mine + kCalls] = words[1];
    __syncwarp(drawing.mask);
  }
  for (uint32_t s = threadIdx.x % threads / kCalls; s < segments; s += threads / kCalls) {
    if (rows.kind == kSome) {
      uint32_t at = s * static_cast<uint32_t>(rows.span);
      const uint32_t end = std::min<int64_t>(rows.n, int64_t{at} + rows.span);
      for (uint32_t call = drawing.mine; at < end; call += kCalls) {
        philox(rows.seed, call, s, row, kRows, words);
        for (int q = 0; q < 4; ++q) {
          uint32_t whole;
          const Piece piece = log_piece(words[q], &whole);
          to[q] = gap(piece.value(rows.logs) + whole) + 1;
        }
        const uint32_t all = drawing.sums(to);
        if constexpr (kDrawn) basis(rows, call, s, row, x);
        for (int q = 0; q < 4; ++q) {
          const uint32_t target = at + to[q] - 1;
          if (target < end && target != own) f(rows.place(target), x[q]);
        }
        at += all;
      }
      continue;
    }
    philox(rows.seed, drawing.mine, s, row, kRows, words);
    philox(rows.seed, drawing.mine, s, row, kFine, to);
    if constexpr (kDrawn) basis(rows, drawing.mine, s, row, x);
    for (int q = 0; q < 4; ++q) {
      const uint32_t j = s * kDraws + q * kCalls + drawing.mine;
      if (j >= rows.k) continue;
      uint32_t target = rows.kind == kDistinct ? j : Rows::any(words[q], to[q], choice);
      if (rows.kind == kDistinct) {
        do {
          target = Rows::permuted(rows.bits, drawing.keys, target);
        } while (target >= choice);
      }
      f(rows.place(target + (holed && target >= own)), x[q]);
    }
  }
}

template <bool kDrawn, typename T>
__global__ void drawn_scatter_rows(const __grid_constant__ Sent<T, Plans> sent,
                                   const __grid_constant__ View<const T> weight, const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Rows rows = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const T w0 = weight.at(at)[0], w1 = kDrawn ? weight.at(at)[1] : T(0);
    T* to = out.at(at);
    for_rows(
        sent.shares, rows.n_pre, [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_drawn<kDrawn, T>(rows, row, sent.shares.threads, [&](int64_t place, T x) {
            atomicAdd(to + place, amount * (kDrawn ? w0 + w1 * x : w0));
          });
        });
  }
}

// A warp has a row to itself.
template <bool kDrawn, typename T>
__global__ void drawn_gather_rows(const __grid_constant__ Batch batch, const __grid_constant__ Plans plans,
                                  const __grid_constant__ View<const T> c, const __grid_constant__ View<const T> weight,
                                  const __grid_constant__ View<const bool> mask, const __grid_constant__ View<T> out,
                                  int rows_at_once) {
  for (int64_t b = blockIdx.y; b < batch.size(); b += gridDim.y) {
    const auto at = batch.at(b);
    const Rows rows = plans.at(at);
    const bool* wanted = mask.size() != 0 ? mask.at(at) + rows.first : nullptr;
    const T* from = c.at(at);
    const T w0 = weight.at(at)[0], w1 = kDrawn ? weight.at(at)[1] : T(0);
    T* to = out.at(at) + rows.first;
    for_rows(
        Shares{rows_at_once, kLanes}, rows.n_pre, [&](int64_t row) { return wanted == nullptr || wanted[row]; },
        [&](int64_t row) {
          T sum = 0;
          for_drawn<kDrawn, T>(rows, row, kLanes, [&](int64_t place, T x) {
            sum += (kDrawn ? w0 + w1 * x : w0) * constant(from + place);
          });
          sum = warp_sum(sum);
          if (lane() == 0) to[row] = sum;
        });
  }
}

template <bool kDrawn, typename T>
__global__ void drawn_outer_rows(const __grid_constant__ Sent<T, Plans> sent, const __grid_constant__ View<const T> c,
                                 const __grid_constant__ View<T> out) {
  for (int64_t b = blockIdx.y; b < sent.batch.size(); b += gridDim.y) {
    const auto at = sent.batch.at(b);
    const Rows rows = sent.rows.at(at);
    const Active<T> active = sent.active(at);
    const T* from = c.at(at);
    T plain = 0, drawn = 0;
    for_rows(
        sent.shares, rows.n_pre, [&](int64_t row) { return active.has(row); },
        [&](int64_t row) {
          const T amount = constant(active.value + row);
          for_drawn<kDrawn, T>(rows, row, sent.shares.threads, [&](int64_t place, T x) {
            const T arrived = amount * constant(from + place);
            plain += arrived;
            if (kDrawn) drawn += x * arrived;
          });
        });
    plain = warp_sum(plain);
    if (kDrawn) drawn = warp_sum(drawn);
    T* to = out.at(at);
    if (lane() == 0 && plain != T(0)) atomicAdd(to, plain);
    if (kDrawn && lane() == 0 && drawn != T(0)) atomicAdd(to + 1, drawn);
  }
}

}  // namespace brainsim::cuda

#endif  // BRAINSIM_CUDA_DRAWN_KERNELS_H_
