// scatter, gather and outer on rows that are drawn when they are needed and never stored (rows.h).
//
// Threads share the segments of the rows where these are ranges of targets, so that nobody writes where another does;
// or the elements of a batch; or blocks of rows where every row has its own result. The number of threads changes no
// bit.
#ifndef BRAINSIM_DRAWN_H_
#define BRAINSIM_DRAWN_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "brainsim/graph.h"
#include "brainsim/parallel.h"
#include "brainsim/rows.h"

namespace brainsim {

// One batch element; elements may share `out`.
template <typename T>
struct DrawnScatter {
  T* out;
  const T* value;  // of row 0; null where every active row has the value 1
  Active<T> active;
  const T* weight;
  Rows rows;
};

template <typename T>
struct DrawnGather {
  T* out;  // of row 0; holds zeros
  const T* c;
  const T* weight;
  const bool* mask;  // of row 0; null for every row
  Rows rows;
};

template <typename T>
struct DrawnOuter {
  T* out;
  const T* value;  // of row 0
  Active<T> active;
  const T* c;
  Rows rows;
};

template <typename T>
std::vector<int32_t> active_rows(const Active<T>& active, int64_t n_pre) {
  std::vector<int32_t> rows;
  active.each(0, n_pre, [&](int64_t i) { rows.push_back(static_cast<int32_t>(i)); });
  return rows;
}

template <typename T>
void scatter_segments(const DrawnScatter<T>& s, const std::vector<int32_t>& active, uint32_t low, uint32_t high) {
  const Rows& rows = s.rows;
  T* out = s.out;
  for (int32_t i : active) {
    const T value = s.value == nullptr ? T(1) : s.value[i];
    if (rows.law == kOne) {
      const T amount = value * s.weight[0];
      rows.for_row<T, false>(i, low, high, [&](uint32_t to, T) { out[rows.place(to)] += amount; });
    } else {
      const T amount = value, w0 = s.weight[0], w1 = s.weight[1];
      rows.for_row<T, true>(i, low, high, [&](uint32_t to, T x) { out[rows.place(to)] += amount * (w0 + w1 * x); });
    }
  }
}

// Calls f(low, high) for ranges of segments that threads may share, if `worth`: where segments are ranges of targets.
template <typename Pool, typename F>
void share_segments(Pool& pool, const Rows& rows, bool worth, F&& f) {
  const int64_t segments = rows.segments;
  const int64_t threads = worth && rows.kind == kSome ? pool.num_threads() : 1;
  const int64_t parts = std::max<int64_t>(1, std::min(threads, segments));
  parallel_for(pool, parts, [&](int64_t part) { f(segments * part / parts, segments * (part + 1) / parts); });
}

// One element, whose active rows are known.
template <typename Pool, typename T>
void drawn_scatter_one(Pool& pool, const DrawnScatter<T>& s, const std::vector<int32_t>& active) {
  const bool worth = static_cast<int64_t>(active.size()) * s.rows.length() >= kWorthSharing;
  share_segments(pool, s.rows, worth, [&](int64_t low, int64_t high) { scatter_segments<T>(s, active, low, high); });
}

// All elements of a batch, whose rows differ in seed and slot only; `apart`: no two of them share `out`.
template <typename Pool, typename T>
void drawn_scatter(Pool& pool, const std::vector<DrawnScatter<T>>& batch, bool apart) {
  const int64_t n = batch.size();
  if (n == 0) return;
  const Rows& rows = batch[0].rows;
  std::vector<std::vector<int32_t>> active;
  int64_t work = 0;
  for (const auto& s : batch) {
    active.push_back(active_rows(s.active, rows.n_pre));
    work += active.back().size() * rows.length();
  }
  const int64_t threads = work < kWorthSharing ? 1 : pool.num_threads(), segments = rows.segments;
  if (threads > 1 && apart && (n >= threads || rows.kind != kSome)) {
    parallel_for(pool, n, [&](int64_t b) { scatter_segments<T>(batch[b], active[b], 0, segments); });
    return;
  }
  share_segments(pool, rows, threads > 1, [&](int64_t low, int64_t high) {
    for (int64_t b = 0; b < n; ++b) scatter_segments<T>(batch[b], active[b], low, high);
  });
}

// The sums of c and, where weights are drawn, of x c over the synapses of a row.
template <typename T>
std::array<T, 2> row_sums(uint32_t i, const T* c, const Rows& rows) {
  T plain = 0, drawn = 0;
  if (rows.law == kOne) {
    rows.for_row<T, false>(i, 0, rows.segments, [&](uint32_t to, T) { plain += c[rows.place(to)]; });
  } else {
    rows.for_row<T, true>(i, 0, rows.segments, [&](uint32_t to, T x) {
      const T arrived = c[rows.place(to)];
      plain += arrived;
      drawn += x * arrived;
    });
  }
  return {plain, drawn};
}

template <typename Pool, typename T>
void drawn_gather(Pool& pool, const DrawnGather<T>& g) {
  const Rows& rows = g.rows;
  const int64_t block = row_block(rows.length());
  parallel_for(pool, (rows.n_pre + block - 1) / block, [&](int64_t k) {
    for (int64_t i = k * block; i < std::min((k + 1) * block, rows.n_pre); ++i) {
      if (g.mask != nullptr && !g.mask[i]) continue;
      const auto sum = row_sums<T>(i, g.c, rows);
      g.out[i] = g.weight[0] * sum[0] + (rows.law == kOne ? T(0) : g.weight[1] * sum[1]);
    }
  });
}

// Adds to `out`, which has as many entries as the rows have weights.
template <typename Pool, typename T>
void drawn_outer(Pool& pool, const DrawnOuter<T>& o) {
  const Rows& rows = o.rows;
  const auto active = active_rows(o.active, rows.n_pre);
  const int64_t block = row_block(rows.length()), n = active.size(), blocks = (n + block - 1) / block;
  std::vector<std::array<T, 2>> partial(blocks);
  parallel_for(pool, blocks, [&](int64_t k) {
    std::array<T, 2> total = {};
    for (int64_t a = k * block; a < std::min((k + 1) * block, n); ++a) {
      const auto sum = row_sums<T>(active[a], o.c, rows);
      for (int p = 0; p < 2; ++p) total[p] += o.value[active[a]] * sum[p];
    }
    partial[k] = total;
  });
  for (const auto& total : partial) {
    for (int p = 0; p < rows.n_weight(); ++p) o.out[p] += total[p];
  }
}

}  // namespace brainsim

#endif  // BRAINSIM_DRAWN_H_
