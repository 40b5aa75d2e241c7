// The event operators on rows of synapses that are drawn when they are needed and never stored. What is drawn, and what
// scatter, gather and outer are of it, is written down in brainsim/events/_draws.py; the integers agree bit for bit.
#include <algorithm>
#include <cstring>
#include <vector>

#include "brainsim/calls.h"
#include "brainsim/drawn.h"

namespace brainsim {
namespace {

ffi::Error scatter(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                   ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  const Drawn drawn{slot, seed, tables, attributes};
  return for_scatter("drawn scatter", drawn, base, value, weight, words, out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    const int64_t total = call.out.total();
    if (call.out.data() != call.base.data() && total > 0) {
      std::memcpy(call.out.data(), call.base.data(), total * sizeof(T));
    }
    if (call.out.size() == 0) return ffi::Error::Success();
    std::vector<DrawnScatter<T>> elements;
    call.batch.each([&](const Axes& b) {
      const Rows rows = call.rows.at(b);
      const T* values = call.value.at(b) + rows.first;
      const Active<T> active{values, call.words.at(b), rows.first};
      elements.push_back({call.out.at(b), values, active, call.weight.at(b), rows});
    });
    drawn_scatter(pool, elements, total == call.out.size() * call.batch.size());
    return ffi::Error::Success();
  });
}

ffi::Error gather(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                  ffi::Dictionary attributes) {
  const Drawn drawn{slot, seed, tables, attributes};
  return for_gather("drawn gather", drawn, c, weight, mask, out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    call.batch.each([&](const Axes& b) {
      const Rows rows = call.rows.at(b);
      T* units = call.out.at(b);
      std::fill_n(units, call.out.size(), T(0));
      const bool* wanted = call.mask.size() == 0 ? nullptr : call.mask.at(b) + rows.first;
      drawn_gather(pool, DrawnGather<T>{units + rows.first, call.c.at(b), call.weight.at(b), wanted, rows});
    });
    return ffi::Error::Success();
  });
}

ffi::Error outer(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                 ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                 ffi::Dictionary attributes) {
  const Drawn drawn{slot, seed, tables, attributes};
  return for_outer("drawn outer", drawn, value, c, words, out, false, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    std::fill_n(call.out.data(), call.out.total(), T(0));
    call.batch.each([&](const Axes& b) {
      const Rows rows = call.rows.at(b);
      const T* values = call.value.at(b) + rows.first;
      const Active<T> active{values, call.words.at(b), rows.first};
      drawn_outer(pool, DrawnOuter<T>{call.out.at(b), values, active, call.c.at(b), rows});
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_drawn_scatter, brainsim::scatter,
                 brainsim::take_drawn<7>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));  // base in place

BRAINSIM_HANDLER(brainsim_drawn_gather, brainsim::gather,
                 brainsim::take_drawn<6>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));

BRAINSIM_HANDLER(brainsim_drawn_outer, brainsim::outer,
                 brainsim::take_drawn<6>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));
