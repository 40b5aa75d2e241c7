// The event operators on rows of synapses that are drawn when they are needed and never stored. What is drawn, and what
// scatter, gather and outer are of it, is written down in brainsim/events/_draws.py; the integers agree bit for bit.
#include <algorithm>
#include <cstring>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/drawn.h"
#include "brainsim/handler.h"
#include "brainsim/operands.h"
#include "brainsim/plans.h"

namespace brainsim {
namespace {

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
    const Plans plan(slot, seed, tables, batch, rows_of(attributes), depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || w.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn scatter: lengths do not fit");
    }
    if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(T));
    if (to.size() == 0) return ffi::Error::Success();
    std::vector<DrawnScatter<T>> elements;
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T* values = v.at(b) + rows.first;
      elements.push_back({to.at(b), values, {values, packed.at(b), rows.first}, w.at(b), rows});
    });
    drawn_scatter(pool, elements, to.total() == to.size() * batch.size());
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
    const Plans plan(slot, seed, tables, batch, rows_of(attributes), depth, n_post);
    if (!plan.fit(to.size()) || w.size() != plan.n_weight() || (wanted.size() != 0 && wanted.size() != to.size())) {
      return ffi::Error::InvalidArgument("drawn gather: lengths do not fit");
    }
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      std::fill_n(to.at(b), to.size(), T(0));
      const bool* rows_wanted = wanted.size() == 0 ? nullptr : wanted.at(b) + rows.first;
      drawn_gather(pool, DrawnGather<T>{to.at(b) + rows.first, from.at(b), w.at(b), rows_wanted, rows});
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
    const Plans plan(slot, seed, tables, batch, rows_of(attributes), depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || to.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn outer: lengths do not fit");
    }
    std::fill_n(to.data(), to.total(), T(0));
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T* values = v.at(b) + rows.first;
      drawn_outer(pool, DrawnOuter<T>{to.at(b), values, {values, packed.at(b), rows.first}, from.at(b), rows});
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
