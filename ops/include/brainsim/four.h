// Four synapses at once, by the vector units of whatever processor.
#ifndef BRAINSIM_FOUR_H_
#define BRAINSIM_FOUR_H_

#include <cstdint>
#include <cstring>

#include "brainsim/graph.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace brainsim {

// Whether the targets j..j+3 all lie in low..high-1; high < 2^31.
template <int kBytes>
inline bool four_within(Targets<kBytes> x, int64_t j, uint32_t low, uint32_t high) {
#if defined(__SSE2__)
  if (kBytes != 3) {  // it compares with signs only: 2^31 is added to both sides
    const __m128i from = _mm_set1_epi32(static_cast<int32_t>(low + 0x80000000u));
    const __m128i end = _mm_set1_epi32(static_cast<int32_t>(high - low + 0x80000000u));
    const auto* at = reinterpret_cast<const __m128i*>(x.bytes + kBytes * j);
    const __m128i four =
        kBytes == 4 ? _mm_loadu_si128(at) : _mm_unpacklo_epi16(_mm_loadl_epi64(at), _mm_setzero_si128());
    return _mm_movemask_epi8(_mm_cmplt_epi32(_mm_sub_epi32(four, from), end)) == 0xffff;
  }
#endif
  bool all = true;
  for (int k = 0; k < 4; ++k) all &= x[j + k] - low < high - low;
  return all;
}

// Not returned by functions: how they would hand it over depends on the processor.
template <typename T>
using Four [[gnu::vector_size(4 * sizeof(T))]] = T;

// x[0..3]. `V` is Four<T>, which compilers do not find out by themselves.
template <typename T, typename V>
inline void read_four(const T* x, V& four) {
  std::memcpy(&four, x, sizeof(four));
}

// What is in `c` where the synapses j..j+3 deliver to; they have targets.
template <bool kDelay, int kBytes, typename T, typename V>
inline void gather_four(const T* c, const Graph& graph, Targets<kBytes> targets, int64_t j, int64_t now, V& four) {
  auto at = [&](int64_t k) { return c[graph.place<kDelay>(targets[k], k, now)]; };
  four = V{at(j), at(j + 1), at(j + 2), at(j + 3)};
}

}  // namespace brainsim

#endif  // BRAINSIM_FOUR_H_
