// Bulk noise of many seeds.
#include "brainsim/random.h"

#include "brainsim/handler.h"

namespace brainsim {
namespace {

// Both: a stretch of `out` for every seed.
ffi::Error bits(ffi::Buffer<ffi::U32> seed, ffi::Result<ffi::Buffer<ffi::U32>> out) {
  const int64_t elements = seed.element_count() / 2;
  const int64_t n = elements ? out->element_count() / elements : 0;
  for (int64_t e = 0; e < elements; ++e) {
    bulk_bits({seed.typed_data()[2 * e], seed.typed_data()[2 * e + 1]}, 0, n, out->typed_data() + e * n);
  }
  return ffi::Error::Success();
}

ffi::Error normals(ffi::Buffer<ffi::U32> seed, ffi::Buffer<ffi::U32> table, ffi::Result<ffi::AnyBuffer> out) {
  const int64_t elements = seed.element_count() / 2;
  const int64_t n = elements ? out->element_count() / elements : 0;
  if (static_cast<int64_t>(table.element_count()) != kNormalTable) {
    return ffi::Error::InvalidArgument("normals: the table does not fit");
  }
  return for_float_type(out->element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    T* to = static_cast<T*>(out->untyped_data());
    for (int64_t e = 0; e < elements; ++e) {
      const Seed key{seed.typed_data()[2 * e], seed.typed_data()[2 * e + 1]};
      bulk_normals<T>(key, table.typed_data(), 0, n, to + e * n);
    }
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_bits, brainsim::bits,
                 xla::ffi::Ffi::Bind()
                     .Arg<xla::ffi::Buffer<xla::ffi::U32>>()  // seed
                     .Ret<xla::ffi::Buffer<xla::ffi::U32>>());

BRAINSIM_HANDLER(brainsim_normals, brainsim::normals,
                 xla::ffi::Ffi::Bind()
                     .Arg<xla::ffi::Buffer<xla::ffi::U32>>()  // seed
                     .Arg<xla::ffi::Buffer<xla::ffi::U32>>()  // table
                     .Ret<xla::ffi::AnyBuffer>());
