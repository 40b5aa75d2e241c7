// base[s_j, post_j] += value_i * weight_j over the rows i with value_i != 0.
//
// Threads share the targets, not the rows: each takes a range of post units and adds to it what every active row holds
// for that range, so that nobody writes where another does and each sum is in the order of the rows, whoever makes it.
#ifndef BRAINSIM_SCATTER_H_
#define BRAINSIM_SCATTER_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "brainsim/four.h"
#include "brainsim/parallel.h"

namespace brainsim {

constexpr int64_t kAhead = 512;      // synapses between asking for a row and sending it, if so many are in
constexpr int64_t kRowsAhead = 8;    // so many rows
constexpr int64_t kSeveral = 4;      // rows in which a part is looked for at once
constexpr int64_t kPartLength = 24;  // synapses of a row for a part of the targets to be worth the way there

// One batch element; elements may share `out`.
template <typename T>
struct Scatter {
  T* out;
  const T* value;  // of row 0; null where it is 1 for every active row
  Active<T> active;
  const T* weight;
  Graph graph;
};

// Adds the synapses of `rows`, `work` in number, whose targets are in low..high-1; where `kPart`, that is part of the
// post units and the targets of each row ascend. Row k + distance is fetched while row k is sent.
//
// Nobody foresees where a row ends, and what a processor does on a guess costs twice where threads share the targets:
// it takes lines of the cache from the thread that adds to them. So a part knows where it ends in a row before it gets
// there, and what is left of a row is sent without asking how much it is.
template <bool kOne, bool kDelay, bool kPart, int kBytes, typename T>
void scatter_rows(const Scatter<T>& s, const std::vector<int32_t>& rows, int64_t work, int64_t distance, uint32_t low,
                  uint32_t high) {
  // copies, which no store into `out` can change: the compiler keeps them in registers
  const Graph graph = s.graph;
  const auto targets = graph.targets<kBytes>();
  constexpr int64_t line = kOne && !kDelay ? 64 / kBytes & -4 : kLine;  // synapses in a line of the cache
  const T* const weight = kOne ? nullptr : s.weight;
  T* const out = s.out + (kDelay ? 0 : graph.now());
  if (!kPart) low = 0, high = graph.n_post;  // as it is, which the compiler does not know
  const int64_t n = rows.size();
  const bool starts = kPart && low > 0, ends = kPart && high < graph.n_post;  // inside rows
  const int64_t window = kPart ? window_of(work / std::max<int64_t>(n, 1)) : 0;
  const double to_low = static_cast<double>(low) / graph.n_post, to_high = static_cast<double>(high) / graph.n_post;
  auto guess = [&](int64_t row, double share) {
    return graph.begin(row) + static_cast<int64_t>(share * graph.length(row));
  };
  auto from = [&](int64_t row) {  // what is read of it, the search included
    const int64_t begin = graph.begin(row);
    return starts ? std::max(guess(row, to_low) - window / 4, begin) : begin;
  };
  // rows lie far apart and no hardware foresees the next spike, so they are asked for in advance: short ones at once,
  // of long ones each line while the same line of a row before is sent
  const bool whole = distance > 2;
  auto ask = [&](int64_t row) __attribute__((always_inline)) {
    const int64_t begin = from(row), end = graph.end(row);
    const int64_t stop = ends ? std::min(guess(row, to_high) + window / 4, end) : end;
    graph.prefetch(begin, std::min(begin + kAhead, stop), weight);
  };
  for (int64_t k = 0; k < std::min(distance, n); ++k) ask(rows[k]);
  // a part is looked for in several rows at once: the searches do not wait for one another, nor for what is sent
  // between them
  const int64_t several = std::min(distance, kSeveral);
  int64_t first_in[kSeveral], last_in[kSeveral];
  for (int64_t k = 0, m = several; k < n; ++k, ++m) {
    if (kPart && m == several) {
      m = 0;
      for (int64_t q = k; q < std::min(k + several, n); ++q) {
        const int64_t row = rows[q], begin = graph.begin(row), end = graph.end(row);
        first_in[q - k] = starts ? first_from(targets, begin, end, low, guess(row, to_low), window) : begin;
        last_in[q - k] = ends ? first_from(targets, begin, end, high, guess(row, to_high), window) : end;
      }
    }
    const int64_t row = rows[k], last = kPart ? last_in[m] : graph.end(row);
    int64_t j = kPart ? first_in[m] : graph.begin(row);
    const T value = s.value == nullptr ? T(1) : s.value[row];
    const T amount = kOne ? value * s.weight[0] : value;
    auto within = [&](uint32_t post) { return post - low < high - low; };
    auto amounts = [&](Four<T>& by) __attribute__((always_inline)) {  // of the next four
      by = Four<T>{amount, amount, amount, amount};
      if (!kOne) {
        Four<T> four;
        read_four(weight + j, four);
        by = amount * four;
      }
    };
    auto four = [&]() __attribute__((always_inline)) {  // sends them, if all their targets are in this part
      if (!four_within(targets, j, low, high)) return false;
      const uint32_t to[] = {targets[j], targets[j + 1], targets[j + 2], targets[j + 3]};  // bytes might be in `out`
      Four<T> by;
      amounts(by);
      for (int q = 0; q < 4; ++q) out[graph.template place<kDelay>(to[q], j + q, 0)] += by[q];
      j += 4;
      return true;
    };
    auto one_by_one = [&](int64_t stop) {
      for (; j < stop; ++j) {
        const uint32_t post = targets[j];
        if (within(post)) out[graph.template place<kDelay>(post, j, 0)] += kOne ? amount : amount * weight[j];
      }
    };
    const int64_t next = k + distance < n ? rows[k + distance] : row;
    if (whole) {
      if (k + distance < n) ask(next);
      while (j + 16 <= last && four() && four() && four() && four()) {  // one question for whether a row has so many
      }
    } else {
      const int64_t ahead = from(next) - j;
      while (j + line <= last) {
        const int64_t stop = j + line;
        graph.prefetch(j + ahead, weight);
        bool all = true;
#pragma GCC unroll 8
        for (int64_t q = 0; all && q < line; q += 4) all = four();
        if (!all) one_by_one(stop);
      }
      if (j < last) graph.prefetch(j + ahead, weight);
    }
    while (j + 4 <= last && four()) {
    }
    if (j >= last) continue;
    if (j + 4 > last && j + 4 <= graph.n_syn) {  // fewer than four, of four that can be read
      const uint32_t to[] = {targets[j], targets[j + 1], targets[j + 2], targets[j + 3]};
      Four<T> by;
      amounts(by);
      T nowhere[4] = {};
      for (int q = 0; q < 4; ++q) {
        const bool is = (j + q < last) & within(to[q]);
        T* const at = is ? out + graph.template place<kDelay>(to[q], j + q, 0) : nowhere + q;
        *at += by[q];
      }
    } else {
      one_by_one(last);
    }
  }
}

// As `scatter_rows`, where each row is one synapse.
template <bool kOne, bool kDelay, int kBytes, typename T>
void scatter_singles(const Scatter<T>& s, const std::vector<int32_t>& rows) {
  const Graph graph = s.graph;
  const auto targets = graph.targets<kBytes>();
  T* const out = s.out + (kDelay ? 0 : graph.now());
  for (int32_t row : rows) {
    const T value = s.value == nullptr ? T(1) : s.value[row];
    const uint32_t post = targets[row];
    if (post < graph.n_post) out[graph.template place<kDelay>(post, row, 0)] += value * s.weight[kOne ? 0 : row];
  }
}

template <bool kOne, bool kDelay, int kBytes, typename T>
void scatter_range(const Scatter<T>& s, const std::vector<int32_t>& rows, int64_t work, int64_t distance, int64_t part,
                   int64_t n_parts) {
  const int64_t n_post = s.graph.n_post;
  const auto low = static_cast<uint32_t>(n_post * part / n_parts);
  const auto high = static_cast<uint32_t>(n_post * (part + 1) / n_parts);
  if (n_parts == 1 && s.graph.fanout == 1) {
    scatter_singles<kOne, kDelay, kBytes>(s, rows);
  } else if (n_parts == 1) {
    scatter_rows<kOne, kDelay, false, kBytes>(s, rows, work, distance, low, high);
  } else {
    scatter_rows<kOne, kDelay, true, kBytes>(s, rows, work, distance, low, high);
  }
}

// The synapses of `rows`, `work` in number, as one part of `n_parts` of the targets.
template <typename T>
void scatter_part(const Scatter<T>& s, const std::vector<int32_t>& rows, int64_t work, bool one, int64_t part,
                  int64_t n_parts) {
  const bool delay = s.graph.delay != nullptr;
  const int64_t distance = std::min<int64_t>(1 + rows.size() * kAhead / std::max<int64_t>(work, 1), kRowsAhead);
  s.graph.with_targets([&](auto targets) {
    constexpr int kBytes = decltype(targets)::kWidth;
    if (one && delay) scatter_range<true, true, kBytes>(s, rows, work, distance, part, n_parts);
    if (one && !delay) scatter_range<true, false, kBytes>(s, rows, work, distance, part, n_parts);
    if (!one && delay) scatter_range<false, true, kBytes>(s, rows, work, distance, part, n_parts);
    if (!one && !delay) scatter_range<false, false, kBytes>(s, rows, work, distance, part, n_parts);
  });
}

// The rows with a value.
template <typename T>
void list_rows(const Active<T>& active, int64_t n_pre, std::vector<int32_t>& rows) {
  rows.clear();
  active.each(0, n_pre, [&](int64_t i) { rows.push_back(static_cast<int32_t>(i)); });
}

// The number of synapses of `rows`. They lie anywhere, so all are asked for before the first is looked at.
template <typename T>
int64_t synapses_of(const Scatter<T>& s, const std::vector<int32_t>& rows) {
  const int32_t* indptr = s.graph.indptr;
  if (indptr != nullptr) {
    for (int32_t row : rows) __builtin_prefetch(indptr + row);
  }
  int64_t work = 0;
  for (int32_t row : rows) work += s.graph.length(row);
  return work;
}

// Parts of the targets to share among `threads`, for `work` synapses in `n_rows` rows.
inline int64_t parts_of(int64_t work, int64_t n_rows, bool sorted, int64_t threads) {
  const int64_t worth = sorted ? work / std::max<int64_t>(n_rows * kPartLength, 1) : 1;
  return std::clamp<int64_t>(worth, 1, std::max<int64_t>(threads, 1));
}

// The synapses of `rows`. `one`: weights are one number; `sorted`: the targets of each row ascend.
template <typename Pool, typename T>
void scatter_one(Pool& pool, const Scatter<T>& s, const std::vector<int32_t>& rows, bool one, bool sorted) {
  const int64_t work = synapses_of(s, rows);
  const int64_t threads = work < worth_sharing(pool) ? 1 : pool.num_threads();
  const int64_t n_parts = parts_of(work, rows.size(), sorted, threads);
  parallel_for(pool, n_parts, [&](int64_t part) { scatter_part(s, rows, work, one, part, n_parts); });
}

// All elements of a batch over `n_pre` rows, as `scatter_one`. `apart`: no two elements share `out`.
template <typename Pool, typename T>
void scatter(Pool& pool, const std::vector<Scatter<T>>& batch, int64_t n_pre, bool one, bool sorted, bool apart) {
  const int64_t n = batch.size();
  if (n == 0) return;
  std::vector<std::vector<int32_t>> rows(n);
  if (n == 1) {
    list_rows(batch[0].active, n_pre, rows[0]);
    return scatter_one(pool, batch[0], rows[0], one, sorted);
  }
  std::vector<int64_t> work(n);
  auto list = [&](int64_t b) {
    list_rows(batch[b].active, n_pre, rows[b]);
    work[b] = synapses_of(batch[b], rows[b]);
  };
  if (n * n_pre < kWorthSharing) {
    for (int64_t b = 0; b < n; ++b) list(b);
  } else {
    parallel_for(pool, n, list);
  }
  int64_t total = 0, n_rows = 0;
  for (int64_t b = 0; b < n; ++b) {
    total += work[b];
    n_rows += rows[b].size();
  }
  const int64_t threads = total < worth_sharing(pool) ? 1 : pool.num_threads();
  if (threads > 1 && apart && (n >= threads || !sorted)) {
    parallel_for(pool, n, [&](int64_t b) { scatter_part(batch[b], rows[b], work[b], one, 0, 1); });
    return;
  }
  const int64_t n_parts = parts_of(total, n_rows, sorted, threads);
  parallel_for(pool, n_parts, [&](int64_t part) {
    for (int64_t b = 0; b < n; ++b) scatter_part(batch[b], rows[b], work[b], one, part, n_parts);
  });
}

}  // namespace brainsim

#endif  // BRAINSIM_SCATTER_H_
