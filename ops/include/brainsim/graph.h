// The connectivity as the kernels see it: rows of synapses, and the place in the ring where a synapse delivers.
#ifndef BRAINSIM_GRAPH_H_
#define BRAINSIM_GRAPH_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "brainsim/batch.h"

namespace brainsim {

// Calls f(i) for every i with x[i] != 0, in order. Silence is skipped 16 values at a time: a value is +-0 exactly if
// all bits but the sign are 0, so that NaN counts as a value.
template <typename T, typename F>
inline void for_nonzero(const T* x, int64_t n, F&& f) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  constexpr int kLanes = 16;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Bits lanes[kLanes];
    std::memcpy(lanes, x + i, sizeof(lanes));
    Bits any = 0;
    for (int k = 0; k < kLanes; ++k) any |= lanes[k] << 1;
    if (any == 0) continue;
    for (int k = 0; k < kLanes; ++k) {
      if (x[i + k] != T(0)) f(i + k);
    }
  }
  for (; i < n; ++i) {
    if (x[i] != T(0)) f(i);
  }
}

// Calls f(i) for every i in 0..n-1 with value[first + i] != 0, in order: as the packed `words` tell (bit k of word w
// for value[32 w + k]), or by looking where there are none.
template <typename T, typename F>
inline void for_active(const T* value, const uint32_t* words, int64_t first, int64_t n, F&& f) {
  if (words == nullptr) return for_nonzero(value + first, n, f);
  const int64_t end = first + n;
  for (int64_t w = first >> 5; w << 5 < end; ++w) {
    uint32_t bits = words[w];
    if (bits == 0) continue;
    const int64_t unit = w << 5;
    if (unit < first) bits &= ~uint32_t{0} << (first - unit);
    if (unit + 32 > end) bits &= ~uint32_t{0} >> (unit + 32 - end);
    for (; bits != 0; bits &= bits - 1) f(unit - first + __builtin_ctz(bits));
  }
}

// One batch element of the connectivity. Arrays made under a transformation have never been looked at, so nothing is
// taken on trust: rows are cut to the list of synapses, and a target out of range is dropped.
struct Graph {
  const int32_t* indptr;  // null where every row has `fanout` synapses
  const int32_t* indices;
  const int32_t* delay;  // null where no synapse has one
  int64_t n_syn;
  int64_t fanout;
  int64_t depth;  // of the ring
  int64_t slot;   // 0 <= slot < depth
  uint32_t n_post;

  int64_t begin(int64_t row) const { return indptr == nullptr ? row * fanout : cut(indptr[row]); }
  int64_t end(int64_t row) const { return indptr == nullptr ? (row + 1) * fanout : cut(indptr[row + 1]); }

  // Row of the ring for a synapse with delay `d`, in 0..depth-1; the remainder is taken only for a delay out of range.
  int64_t ring(int32_t d) const {
    int64_t s = slot + d;
    if (static_cast<uint64_t>(static_cast<int64_t>(d)) < static_cast<uint64_t>(depth)) {
      return s >= depth ? s - depth : s;
    }
    s %= depth;
    return s < 0 ? s + depth : s;
  }

  // Calls f(j, place) for the synapses of a row, `place` being ring row * n_post + target.
  template <bool kDelay, typename F>
  void for_row(int64_t row, F&& f) const {
    const int64_t last = end(row);
    const int64_t now = slot * static_cast<int64_t>(n_post);
    for (int64_t j = begin(row); j < last; ++j) {
      const uint32_t post = static_cast<uint32_t>(indices[j]);
      if (post >= n_post) continue;
      if constexpr (kDelay) {
        f(j, ring(delay[j]) * static_cast<int64_t>(n_post) + post);
      } else {
        f(j, now + post);
      }
    }
  }

  // Ask for the first synapses of a row: rows lie far apart and no hardware foresees the next spike.
  template <typename T>
  void prefetch(int64_t row, const T* weight) const {
    const int64_t j = begin(row);
    if (j >= n_syn) return;
    for (int line = 0; line < 4; ++line) {
      __builtin_prefetch(indices + j + 16 * line);
      if (delay != nullptr) __builtin_prefetch(delay + j + 16 * line);
      if (weight != nullptr) __builtin_prefetch(weight + j + 16 * line);
    }
  }

 private:
  int64_t cut(int32_t j) const { return std::clamp<int64_t>(j, 0, n_syn); }
};

// The packed words of values over `n` units, if they are given.
class Words {
 public:
  template <typename Buffer>
  Words(const Buffer& words, const Batch& batch, int64_t n) : words_(words, batch), n_((n + 31) / 32) {}

  bool fit() const { return words_.size() == 0 || words_.size() == n_; }
  const uint32_t* at(const Axes& coordinates) const { return words_.size() == 0 ? nullptr : words_.at(coordinates); }

 private:
  View<const uint32_t> words_;
  int64_t n_;
};

// The operands slot, delay, indptr and indices, which every operator ends with.
class Graphs {
 public:
  template <typename Buffer>
  Graphs(const Buffer& slot, const Buffer& delay, const Buffer& indptr, const Buffer& indices, const Batch& batch,
         int64_t fanout, int64_t depth, int64_t n_post)
      : slot_(slot, batch), delay_(delay, batch), indptr_(indptr, batch), indices_(indices, batch) {
    graph_.n_syn = indices_.size();
    graph_.fanout = fanout;
    graph_.depth = depth;
    graph_.n_post = static_cast<uint32_t>(n_post);
  }

  bool delays() const { return delay_.size() != 0; }

  // Whether the arrays have the lengths that `n_pre` rows need.
  bool fit(int64_t n_pre) const {
    const bool rows = graph_.fanout >= 0 ? n_pre * graph_.fanout == graph_.n_syn : indptr_.size() == n_pre + 1;
    return rows && (!delays() || delay_.size() == graph_.n_syn) && slot_.size() == 1;
  }

  Graph at(const Axes& coordinates) const {
    Graph graph = graph_;
    graph.indptr = graph.fanout >= 0 ? nullptr : indptr_.at(coordinates);
    graph.indices = indices_.at(coordinates);
    graph.delay = delays() ? delay_.at(coordinates) : nullptr;
    const int64_t s = graph.depth > 0 ? *slot_.at(coordinates) % graph.depth : 0;
    graph.slot = s < 0 ? s + graph.depth : s;
    return graph;
  }

 private:
  View<const int32_t> slot_, delay_, indptr_, indices_;
  Graph graph_;
};

}  // namespace brainsim

#endif  // BRAINSIM_GRAPH_H_
