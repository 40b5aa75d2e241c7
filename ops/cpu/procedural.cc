// The event operators on rows of synapses that are drawn when they are needed and never stored. What is drawn, and what
// scatter, gather and outer are of it, is written down in brainsim/events/_draws.py; the integers agree bit for bit.
//
// Threads share the segments of the rows where these are ranges of targets, so that nobody writes where another does;
// or the elements of a batch; or blocks of rows where every row has its own result. The numbers of threads change no
// bit.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/handler.h"
#include "brainsim/operands.h"
#include "brainsim/parallel.h"
#include "brainsim/rows.h"

namespace brainsim {
namespace {

// The operands slot, seed and tables and the attributes, which the three operators end with.
class Plan {
 public:
  Plan(const ffi::AnyBuffer& slot, const ffi::AnyBuffer& seed, const ffi::AnyBuffer& tables, const Batch& batch,
       ffi::Dictionary attributes, int64_t depth, int64_t n_post)
      : slot_(slot, batch), seed_(seed, batch), tables_(tables, batch), depth_(depth), n_post_(n_post) {
    auto get = [&](const char* name) {
      auto value = attributes.get<int64_t>(name);
      ok_ = ok_ && value.has_value();
      return value.has_value() ? *value : 0;
    };
    rows_ = Rows{get("first"), get("n_pre"), get("n"),    get("kind"), get("k"),        get("law"),
                 get("twin"),  get("start"), get("step"), get("span"), get("segments"), get("multiplier"),
                 get("shift"), get("bits"),  0,           Seed{},      nullptr,         nullptr};
  }

  bool fit(int64_t n_value) const {
    const int64_t last = rows_.n > 0 ? rows_.start + rows_.step * (rows_.n - 1) : 0;
    return ok_ && slot_.size() == 1 && seed_.size() == 2 &&
           tables_.size() >= kLogTable + (rows_.law == kNormal ? kNormalTable : 0) && rows_.first >= 0 &&
           rows_.n_pre >= 0 && n_value >= rows_.first + rows_.n_pre && rows_.start >= 0 && last >= 0 &&
           (rows_.n == 0 || last < n_post_) && rows_.bits >= 2 && rows_.bits <= 31;
  }

  bool drawn() const { return rows_.law != kOne; }
  int64_t n_weight() const { return drawn() ? 2 : 1; }

  Rows at(const Axes& coordinates) const {
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
  bool ok_ = true;
};

// One batch element.
template <typename T>
struct Element {
  T* out;
  const T* value;  // of row 0
  const T* c;
  const T* weight;
  Rows rows;
  std::vector<int32_t> active;
};

template <typename T>
std::vector<int32_t> active_rows(const T* values, const uint32_t* words, const Rows& rows) {
  std::vector<int32_t> active;
  Active<T>{values + rows.first, words, rows.first}.each(0, rows.n_pre,
                                                         [&](int64_t i) { active.push_back(static_cast<int32_t>(i)); });
  return active;
}

template <typename T>
void scatter_segments(const Element<T>& e, uint32_t low, uint32_t high) {
  const Rows& rows = e.rows;
  T* out = e.out;
  for (int32_t i : e.active) {
    if (rows.law == kOne) {
      const T amount = e.value[i] * e.weight[0];
      rows.for_row<T, false>(i, low, high, [&](uint32_t to, T) { out[rows.place(to)] += amount; });
    } else {
      const T amount = e.value[i], w0 = e.weight[0], w1 = e.weight[1];
      rows.for_row<T, true>(i, low, high, [&](uint32_t to, T x) { out[rows.place(to)] += amount * (w0 + w1 * x); });
    }
  }
}

// The sums of c and, where weights are drawn, of x c over the synapses of a row.
template <typename T>
std::array<T, 2> sums(uint32_t i, const T* c, const Rows& rows) {
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

ffi::Error scatter(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                   ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn scatter: base needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn scatter: batch axes do not fit");
  auto same = {value.element_type(), weight.element_type(), out->element_type()};
  return for_float_type(base.element_type(), same, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(base, batch), v(value, batch), w(weight, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || w.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn scatter: lengths do not fit");
    }
    if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(T));
    if (to.size() == 0) return ffi::Error::Success();
    std::vector<Element<T>> elements;
    int64_t work = 0;
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      auto active = active_rows(v.at(b), packed.at(b), rows);
      work += active.size() * rows.length();
      elements.push_back({to.at(b), v.at(b) + rows.first, nullptr, w.at(b), rows, std::move(active)});
    });
    if (elements.empty()) return ffi::Error::Success();
    const int64_t threads = work < kWorthSharing ? 1 : pool.num_threads(), n = elements.size();
    const int64_t segments = elements[0].rows.segments;
    const bool apart = to.total() == to.size() * n;
    if (threads > 1 && apart && (n >= threads || elements[0].rows.kind != kSome)) {
      parallel_for(pool, n, [&](int64_t e) { scatter_segments<T>(elements[e], 0, segments); });
      return ffi::Error::Success();
    }
    const int64_t parts = elements[0].rows.kind == kSome ? std::max<int64_t>(1, std::min(threads, segments)) : 1;
    parallel_for(pool, parts, [&](int64_t part) {
      for (const auto& e : elements) scatter_segments<T>(e, segments * part / parts, segments * (part + 1) / parts);
    });
    return ffi::Error::Success();
  });
}

ffi::Error gather(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                  ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn gather: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(c).with(weight).with(mask).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn gather: batch axes do not fit");
  return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), w(weight, batch);
    View<const bool> wanted(mask, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    if (!plan.fit(to.size()) || w.size() != plan.n_weight() || (wanted.size() != 0 && wanted.size() != to.size())) {
      return ffi::Error::InvalidArgument("drawn gather: lengths do not fit");
    }
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T *arrivals = from.at(b), *theta = w.at(b);
      const bool* rows_wanted = wanted.size() == 0 ? nullptr : wanted.at(b);
      T* result = to.at(b);
      std::fill_n(result, to.size(), T(0));
      const int64_t block = row_block(rows.length());
      parallel_for(pool, (rows.n_pre + block - 1) / block, [&](int64_t k) {
        for (int64_t i = k * block; i < std::min((k + 1) * block, rows.n_pre); ++i) {
          if (rows_wanted != nullptr && !rows_wanted[rows.first + i]) continue;
          const auto sum = sums<T>(i, arrivals, rows);
          result[rows.first + i] = theta[0] * sum[0] + (plan.drawn() ? theta[1] * sum[1] : T(0));
        }
      });
    });
    return ffi::Error::Success();
  });
}

ffi::Error outer(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                 ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                 ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn outer: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(seed).with(tables).with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), v(value, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || to.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn outer: lengths do not fit");
    }
    std::fill_n(to.data(), to.total(), T(0));
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T *values = v.at(b) + rows.first, *arrivals = from.at(b);
      const auto active = active_rows(v.at(b), packed.at(b), rows);
      const int64_t block = row_block(rows.length()), n = active.size(), blocks = (n + block - 1) / block;
      std::vector<std::array<T, 2>> partial(blocks);
      parallel_for(pool, blocks, [&](int64_t k) {
        std::array<T, 2> total = {};
        for (int64_t a = k * block; a < std::min((k + 1) * block, n); ++a) {
          const auto sum = sums<T>(active[a], arrivals, rows);
          for (int p = 0; p < 2; ++p) total[p] += values[active[a]] * sum[p];
        }
        partial[k] = total;
      });
      for (const auto& total : partial) {
        for (int p = 0; p < plan.n_weight(); ++p) to.at(b)[p] += total[p];
      }
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_drawn_scatter, brainsim::scatter,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // base
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()  // base, in place
                     .Attrs());

BRAINSIM_HANDLER(brainsim_drawn_gather, brainsim::gather,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // mask
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs());

BRAINSIM_HANDLER(brainsim_drawn_outer, brainsim::outer,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs());
