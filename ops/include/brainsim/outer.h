// out_j = value_i * c[s_j, post_j] for the synapses j of the rows i with value_i != 0, summed over all synapses where
// `out` has one entry and over the batch elements that share `out`.
//
// Threads share blocks of rows, and the blocks do not depend on the threads: a block adds all batch elements up while
// its synapses are in the cache, and sums over all synapses are made block by block in order.
#ifndef BRAINSIM_OUTER_H_
#define BRAINSIM_OUTER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "brainsim/four.h"
#include "brainsim/parallel.h"

namespace brainsim {

// One batch element; elements may share `out`.
template <typename T>
struct Outer {
  T* out;
  const T* value;  // of row 0
  Active<T> active;
  const T* c;
  Graph graph;
};

template <bool kDelay, typename T>
T outer_sum(const Outer<T>& o, int64_t begin, int64_t end) {
  T total = 0;
  o.active.each(begin, end, [&](int64_t i) {
    T sum = 0;
    o.graph.template for_row<kDelay>(i, [&](int64_t, int64_t at) { sum += o.c[at]; });
    total += o.value[i] * sum;
  });
  return total;
}

// `graph` is a copy, which no store into `out` can change.
template <bool kDelay, typename T>
void outer_rows(const Outer<T>& o, const Graph graph, int64_t begin, int64_t end) {
  auto each = [&](auto f) { o.active.each(begin, end, f); };
  for_next(each, [&](int64_t i, int64_t next) {
    const T amount = o.value[i], *const c = o.c;
    const int64_t first = graph.begin(i), last = graph.end(i), now = graph.now(), ahead = graph.begin(next) - first;
    T* const out = o.out;
    graph.with_targets([&](auto targets) {
      for (int64_t j = first; j < last;) {
        const int64_t stop = std::min(j + kLine, last);
        graph.prefetch(j + ahead, out);
        for (; j + 4 <= stop && four_within(targets, j, 0, graph.n_post); j += 4) {
          Four<T> x, sum;
          gather_four<kDelay>(c, graph, targets, j, now, x);
          read_four(out + j, sum);
          sum += amount * x;
          std::memcpy(out + j, &sum, sizeof(sum));
        }
        for (; j < stop; ++j) {
          graph.template deliver<kDelay>(targets[j], j, now, [&](int64_t at) { out[j] += amount * c[at]; });
        }
      }
    });
  });
}

// Whether the synapses of blocks of `rows` rows lie one after another: not where elements have rows of their own, nor
// for every list of rows that has not been looked at.
template <typename T>
bool blocks_apart(const std::vector<Outer<T>>& batch, int64_t n_pre, int64_t rows) {
  const Graph& graph = batch[0].graph;
  for (const auto& o : batch) {
    if (o.graph.indptr != graph.indptr) return false;
  }
  for (int64_t i = 0; i < n_pre; i += rows) {
    if (graph.begin(i) > graph.begin(std::min(i + rows, n_pre))) return false;
  }
  return true;
}

// All elements of a batch over `n_pre` rows into outs that hold zeros; `one`: out has one entry.
template <typename Pool, typename T>
void outer(Pool& pool, const std::vector<Outer<T>>& batch, int64_t n_pre, bool one) {
  const int64_t n = batch.size();
  if (n == 0 || n_pre == 0) return;
  const int64_t length = std::max<int64_t>(batch[0].graph.n_syn / n_pre, 1);  // of a row, about
  const int64_t rows = row_block(length), blocks = (n_pre + rows - 1) / rows;
  bool share = false;
  if (n * batch[0].graph.n_syn >= kWorthSharing && blocks > 1 && pool.num_threads() > 1) {
    int64_t work = 0;
    for (int64_t b = 0; b < n && work < kWorthSharing; ++b) {
      work += n_pre / 4;  // looking for values is work too
      batch[b].active.each(0, n_pre, [&](int64_t) { work += length; });
    }
    share = work >= kWorthSharing && (one || blocks_apart(batch, n_pre, rows));
  }
  std::vector<T> sums(one ? n * blocks : 0);
  auto run = [&](int64_t k) {
    const int64_t begin = k * rows, end = std::min(begin + rows, n_pre);
    for (int64_t b = 0; b < n; ++b) {
      const Outer<T>& o = batch[b];
      const bool delay = o.graph.delay != nullptr;
      if (one) sums[b * blocks + k] = delay ? outer_sum<true>(o, begin, end) : outer_sum<false>(o, begin, end);
      const Graph graph = share ? o.graph.within(begin, end) : o.graph;
      if (!one && delay) outer_rows<true>(o, graph, begin, end);
      if (!one && !delay) outer_rows<false>(o, graph, begin, end);
    }
  };
  if (share) {
    parallel_for(pool, blocks, run);
  } else {
    for (int64_t k = 0; k < blocks; ++k) run(k);
  }
  if (one) {
    for (int64_t k = 0; k < n * blocks; ++k) *batch[k / blocks].out += sums[k];
  }
}

}  // namespace brainsim

#endif  // BRAINSIM_OUTER_H_
