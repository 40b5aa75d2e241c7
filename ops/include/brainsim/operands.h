// What the handlers of the operators share: their operands, element by element of the batch.
#ifndef BRAINSIM_OPERANDS_H_
#define BRAINSIM_OPERANDS_H_

#include <algorithm>
#include <cstdint>

#include "brainsim/batch.h"
#include "brainsim/graph.h"

namespace brainsim {

// The packed words of values over `n` units, if they are given.
class Words {
 public:
  template <typename Buffer>
  Words(const Buffer& words, const Batch& batch, int64_t n) : words_(words, batch), n_((n + 31) / 32) {}

  bool fit() const { return words_.size() == 0 || words_.size() == n_; }
  template <typename At>
  BRAINSIM_BOTH const uint32_t* at(const At& coordinates) const {
    return words_.size() == 0 ? nullptr : words_.at(coordinates);
  }

 private:
  View<const uint32_t> words_;
  int64_t n_;
};

// The operands slot, delay, indptr and indices, which every operator ends with. `entry`: bytes of an entry of indices;
// three of one byte are a target. `stretched`: behind all targets it says how long stretches are.
class Graphs {
 public:
  template <typename Buffer>
  Graphs(const Buffer& slot, const Buffer& delay, const Buffer& indptr, const Buffer& indices, const Batch& batch,
         int64_t n_pre, int64_t fanout, int64_t first, int64_t depth, int64_t n_post, int64_t entry, bool stretched)
      : slot_(slot, batch),
        delay_(delay, batch),
        indptr_(indptr, batch),
        indices_(indices, batch),
        n_pre_(n_pre),
        first_(first),
        entry_(entry),
        stretched_(stretched) {
    graph_.width = entry == 1 ? 3 : entry;
    const int64_t lengths = stretched ? n_pre * blocks_of(n_post) : 0;
    graph_.n_syn = std::max<int64_t>(indices_.size() - lengths, 0) * entry / graph_.width;
    graph_.fanout = fanout;
    graph_.depth = depth;
    graph_.n_post = static_cast<uint32_t>(n_post);
  }

  BRAINSIM_BOTH bool delays() const { return delay_.size() != 0; }
  BRAINSIM_BOTH int64_t n_pre() const { return n_pre_; }
  BRAINSIM_BOTH int64_t first() const { return first_; }
  int64_t length() const { return n_pre_ > 0 ? graph_.n_syn / n_pre_ : 0; }  // of a row, on average

  // Whether the arrays have the lengths that the rows need, of arrays over `n_value` units.
  bool fit(int64_t n_value) const {
    const int64_t lengths = n_pre_ * blocks_of(graph_.n_post);
    if (stretched_ && (graph_.fanout >= 0 || graph_.width != 3 || indices_.size() < lengths)) return false;
    const bool rows = graph_.fanout >= 0 ? n_pre_ * graph_.fanout == graph_.n_syn : indptr_.size() == n_pre_ + 1;
    return rows && (!delays() || delay_.size() == graph_.n_syn) && slot_.size() == 1 && first_ >= 0 && n_pre_ >= 0 &&
           n_value >= first_ + n_pre_;
  }
  bool fit_weight(int64_t n) const { return n == 1 || n == graph_.n_syn; }

  template <typename At>
  BRAINSIM_BOTH Graph at(const At& coordinates) const {
    Graph graph = graph_;
    graph.indptr = graph.fanout >= 0 ? nullptr : indptr_.at(coordinates);
    graph.indices = indices_.data() + entry_ * (indices_.at(coordinates) - indices_.data());
    if (stretched_) graph.stretches = static_cast<const uint8_t*>(graph.indices) + graph.width * graph.n_syn;
    graph.delay = delays() ? delay_.at(coordinates) : nullptr;
    const int64_t s = graph.depth > 0 ? *slot_.at(coordinates) % graph.depth : 0;
    graph.slot = s < 0 ? s + graph.depth : s;
    return graph;
  }

 private:
  View<const int32_t> slot_, delay_, indptr_;
  View<const char> indices_;  // places count entries, not bytes
  int64_t n_pre_, first_, entry_;
  bool stretched_;
  Graph graph_;
};

}  // namespace brainsim

#endif  // BRAINSIM_OPERANDS_H_
