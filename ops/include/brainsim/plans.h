// What the handlers of the operators on drawn rows share.
#ifndef BRAINSIM_PLANS_H_
#define BRAINSIM_PLANS_H_

#include <cstdint>

#include "brainsim/batch.h"
#include "brainsim/rows.h"

namespace brainsim {

// The operands slot, seed and tables, which the three operators end with, and what all elements' rows have in common.
class Plans {
 public:
  template <typename Buffer>
  Plans(const Buffer& slot, const Buffer& seed, const Buffer& tables, const Batch& batch, const Rows& rows,
        int64_t depth, int64_t n_post)
      : slot_(slot, batch), seed_(seed, batch), tables_(tables, batch), depth_(depth), n_post_(n_post), rows_(rows) {}

  bool fit(int64_t n_value) const {
    const int64_t last = rows_.n > 0 ? rows_.start + rows_.step * (rows_.n - 1) : 0;
    return slot_.size() == 1 && seed_.size() == 2 &&
           tables_.size() >= kLogTable + (rows_.law == kNormal ? kNormalTable : 0) && rows_.first >= 0 &&
           rows_.n_pre >= 0 && n_value >= rows_.first + rows_.n_pre && rows_.start >= 0 && last >= 0 &&
           (rows_.n == 0 || last < n_post_) && rows_.bits >= 2 && rows_.bits <= 31;
  }

  bool fit_weight(int64_t n) const { return n == rows_.n_weight(); }

  const Rows& rows() const { return rows_; }
  BRAINSIM_BOTH int64_t n_pre() const { return rows_.n_pre; }
  BRAINSIM_BOTH int64_t first() const { return rows_.first; }

  template <typename At>
  BRAINSIM_BOTH Rows at(const At& coordinates) const {
    Rows rows = rows_;
    const int64_t s = depth_ > 0 ? *slot_.at(coordinates) % depth_ : 0;
    rows.now = (s < 0 ? s + depth_ : s) * n_post_ + rows.start;
    const uint32_t* seed = seed_.at(coordinates);
    rows.seed = Seed{seed[0], seed[1]};
    rows.logs = tables_.at(coordinates);
    rows.normals = rows.logs + kLogTable;
    return rows;
  }

 private:
  View<const int32_t> slot_;
  View<const uint32_t> seed_, tables_;
  int64_t depth_, n_post_;
  Rows rows_;
};

// The rows that a plan describes (brainsim/events/_draws.py); without bits, which do not fit, where a number is
// missing.
template <typename Attributes>
Rows rows_of(const Attributes& attributes) {
  bool all = true;
  auto get = [&](const char* name) {
    auto value = attributes.template get<int64_t>(name);
    all = all && value.has_value();
    return value.has_value() ? *value : 0;
  };
  Rows rows{get("first"), get("n_pre"), get("n"),    get("kind"), get("k"),        get("law"),
            get("twin"),  get("start"), get("step"), get("span"), get("segments"), get("multiplier"),
            get("shift"), get("bits"),  0,           Seed{},      nullptr,         nullptr};
  if (!all) rows.bits = 0;
  return rows;
}

}  // namespace brainsim

#endif  // BRAINSIM_PLANS_H_
