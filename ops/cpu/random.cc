// Bulk noise: word i (or the normal number made of it) belongs to unit i whatever the length.
#include "brainsim/random.h"

#include <algorithm>
#include <cstring>

#include "brainsim/handler.h"

namespace brainsim {
namespace {

ffi::Error bits(ffi::Buffer<ffi::U32> seed, ffi::Result<ffi::Buffer<ffi::U32>> out) {
  const int64_t elements = seed.element_count() / 2;
  const int64_t n = elements ? out->element_count() / elements : 0;
  for (int64_t e = 0; e < elements; ++e) {
    const Seed key{seed.typed_data()[2 * e], seed.typed_data()[2 * e + 1]};
    uint32_t* to = out->typed_data() + e * n;
    uint32_t words[kDraws];
    for (int64_t i = 0; i < n; i += kDraws) {
      draws(key, static_cast<uint32_t>(i / kDraws), 0, 0, kBulk, words);
      std::memcpy(to + i, words, std::min<int64_t>(kDraws, n - i) * sizeof(uint32_t));
    }
  }
  return ffi::Error::Success();
}

ffi::Error normals(ffi::Buffer<ffi::U32> seed, ffi::Buffer<ffi::U32> table, ffi::Result<ffi::AnyBuffer> out) {
  const int64_t elements = seed.element_count() / 2;
  const int64_t n = elements ? out->element_count() / elements : 0;
  return for_float_type(out->element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    // under `vmap` the table comes once for every element
    if (elements && static_cast<int64_t>(table.element_count()) != elements * kNormalTable) {
      return ffi::Error::InvalidArgument("normals: the table does not fit");
    }
    for (int64_t e = 0; e < elements; ++e) {
      const Seed key{seed.typed_data()[2 * e], seed.typed_data()[2 * e + 1]};
      T* to = static_cast<T*>(out->untyped_data()) + e * n;
      uint32_t words[kDraws];
      int32_t fixed[kDraws];
      for (int64_t i = 0; i < n; i += kDraws) {
        draws(key, static_cast<uint32_t>(i / kDraws), 0, 0, kBulk, words);
        fixed_normals(words, table.typed_data(), fixed);
        const int64_t m = std::min<int64_t>(kDraws, n - i);
        for (int64_t j = 0; j < m; ++j) to[i + j] = static_cast<T>(fixed[j]) * T(1.0 / (1 << 28));
      }
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
