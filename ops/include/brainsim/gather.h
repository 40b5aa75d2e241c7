// out_i = sum_j weight_j * c[s_j, post_j] for the rows i of a mask (all of them without one), 0 for the others.
#ifndef BRAINSIM_GATHER_H_
#define BRAINSIM_GATHER_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "brainsim/four.h"
#include "brainsim/parallel.h"

namespace brainsim {

// One batch element; no two share `out`.
template <typename T>
struct Gather {
  T* out;  // of row 0
  const T* c;
  const T* weight;
  const bool* mask;  // of row 0; null for every row
  Graph graph;
};

// The sum over a row; `next` is the row after it, of which each line is asked for while the same one is read here.
template <bool kOne, bool kDelay, typename T>
T gather_row(const Gather<T>& g, int64_t row, int64_t next) {
  const Graph graph = g.graph;  // a copy, which no store can change
  const T *const c = g.c, *const weight = kOne ? nullptr : g.weight;
  const int64_t first = graph.begin(row), last = graph.end(row), now = graph.now();
  const int64_t ahead = graph.begin(next) - first;
  const T all = graph.with_targets([&](auto targets) {
    auto term = [&](int64_t j) {
      T x = 0;
      graph.template deliver<kDelay>(targets[j], j, now, [&](int64_t at) { x = kOne ? c[at] : weight[j] * c[at]; });
      return x;
    };
    Four<T> sum = {};  // four chains of additions instead of one: the order is fixed, the latency hidden
    for (int64_t j = first; j < last;) {
      const int64_t stop = std::min(j + kLine, last);
      graph.prefetch(j + ahead, weight);
      for (; j + 4 <= stop; j += 4) {
        if (four_within(targets, j, 0, graph.n_post)) {
          Four<T> x, w;
          gather_four<kDelay>(c, graph, targets, j, now, x);
          if (!kOne) read_four(weight + j, w);
          sum += kOne ? x : w * x;
        } else {
          for (int q = 0; q < 4; ++q) sum[q] += term(j + q);
        }
      }
      for (; j < stop; ++j) sum[0] += term(j);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  });
  return kOne ? g.weight[0] * all : all;
}

template <bool kOne, bool kDelay, typename T>
void gather_rows(const Gather<T>& g, int64_t begin, int64_t end) {
  if (g.mask == nullptr) {
    for (int64_t i = begin; i < end; ++i) g.out[i] = gather_row<kOne, kDelay>(g, i, i);
    return;
  }
  std::fill(g.out + begin, g.out + end, T(0));
  for_next([&](auto f) { for_true(g.mask, begin, end, f); },
           [&](int64_t row, int64_t next) { g.out[row] = gather_row<kOne, kDelay>(g, row, next); });
}

// All elements of a batch over `n_pre` rows; `one`: weights are one number. Threads share the rows.
template <typename Pool, typename T>
void gather(Pool& pool, const std::vector<Gather<T>>& batch, int64_t n_pre, bool one) {
  const int64_t n = batch.size();
  if (n == 0 || n_pre == 0) return;
  const int64_t length = std::max<int64_t>(batch[0].graph.n_syn / n_pre, 1);  // of a row, about
  int64_t work = 0;
  if (n * batch[0].graph.n_syn >= kWorthSharing) {  // else there is not enough of it, whatever the mask
    for (const auto& g : batch) {
      int64_t rows = g.mask == nullptr ? n_pre : 0;
      if (g.mask != nullptr) for_true(g.mask, 0, n_pre, [&](int64_t) { ++rows; });
      work += rows * length;
    }
  }
  auto run = [&](const Gather<T>& g, int64_t begin, int64_t end) {
    const bool delay = g.graph.delay != nullptr;
    if (one && delay) gather_rows<true, true>(g, begin, end);
    if (one && !delay) gather_rows<true, false>(g, begin, end);
    if (!one && delay) gather_rows<false, true>(g, begin, end);
    if (!one && !delay) gather_rows<false, false>(g, begin, end);
  };
  if (work < kWorthSharing) {
    for (const auto& g : batch) run(g, 0, n_pre);
    return;
  }
  const int64_t rows = row_block(length), blocks = (n_pre + rows - 1) / rows;
  parallel_for(pool, n * blocks, [&](int64_t k) {
    const int64_t begin = k % blocks * rows;
    run(batch[k / blocks], begin, std::min(begin + rows, n_pre));
  });
}

}  // namespace brainsim

#endif  // BRAINSIM_GATHER_H_
