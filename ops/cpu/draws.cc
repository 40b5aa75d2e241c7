// The generator.
#include "brainsim/random.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace brainsim {

namespace {

void plain_draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out) {
  for (int l = 0; l < kCalls; ++l) {
    uint32_t x[4];
    philox(seed, kCalls * batch + l, segment, row, purpose, x);
    for (int w = 0; w < 4; ++w) out[l + w * kCalls] = x[w];
  }
}

#if defined(__x86_64__)
// Four calls to a register, a word in the lower half of each lane; four registers hide the latency of the rounds.
__attribute__((target("avx2"))) void avx2_draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row,
                                                Purpose purpose, uint32_t* out) {
  constexpr int kParts = kCalls / 4;
  const __m256i m0 = _mm256_set1_epi64x(kM0), m1 = _mm256_set1_epi64x(kM1);
  __m256i x[4][kParts];
  for (int h = 0; h < kParts; ++h) {
    const __m256i call = _mm256_set1_epi64x(static_cast<uint32_t>(kCalls * batch + 4 * h));
    x[0][h] = _mm256_add_epi64(call, _mm256_set_epi64x(3, 2, 1, 0));
    x[1][h] = _mm256_set1_epi64x(segment);
    x[2][h] = _mm256_set1_epi64x(row);
    x[3][h] = _mm256_set1_epi64x(purpose);
  }
  uint32_t k0 = seed.a, k1 = seed.b;
  for (int round = 0; round < 10; ++round, k0 += kW0, k1 += kW1) {
    const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
    for (int h = 0; h < kParts; ++h) {
      const __m256i p0 = _mm256_mul_epu32(x[0][h], m0), p1 = _mm256_mul_epu32(x[2][h], m1);
      x[0][h] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), x[1][h]), key0);
      x[2][h] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), x[3][h]), key1);
      x[1][h] = p1;
      x[3][h] = p0;
    }
  }
  const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
  for (int w = 0; w < 4; ++w) {
    for (int h = 0; h < kParts; ++h) {
      const __m128i low = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(x[w][h], even));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kCalls * w + 4 * h), low);
    }
  }
}

const bool has_avx2 = __builtin_cpu_supports("avx2");
#endif

}  // namespace

void draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out) {
#if defined(__x86_64__)
  if (has_avx2) return avx2_draws(seed, batch, segment, row, purpose, out);
#endif
  plain_draws(seed, batch, segment, row, purpose, out);
}

namespace {

// Piece::value of each, in short loops, for the vectors' sake.
inline void curve(const uint32_t* table, const uint32_t* piece, const uint32_t* f, uint32_t* out) {
  uint32_t c1[kDraws], c2[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    out[i] = table[3 * piece[i]];
    c1[i] = table[3 * piece[i] + 1];
    c2[i] = table[3 * piece[i] + 2];
  }
  for (int i = 0; i < kDraws; ++i) c2[i] = mulhi(f[i], c2[i]);
  for (int i = 0; i < kDraws; ++i) c1[i] = mulhi(f[i], c1[i] - c2[i]);
  for (int i = 0; i < kDraws; ++i) out[i] -= c1[i];
}

}  // namespace

BRAINSIM_CLONES void negative_logs(const uint32_t* words, const uint32_t* table, uint32_t* out) {
  uint32_t piece[kDraws], f[kDraws], whole[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    const Piece p = log_piece(words[i], whole + i);
    piece[i] = p.number;
    f[i] = p.f;
  }
  curve(table, piece, f, out);
  for (int i = 0; i < kDraws; ++i) out[i] += whole[i];
}

BRAINSIM_CLONES void fixed_normals(const uint32_t* words, const uint32_t* table, int32_t* out) {
  uint32_t piece[kDraws], f[kDraws], z[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    const Piece p = normal_piece(words[i]);
    piece[i] = p.number;
    f[i] = p.f;
  }
  curve(table, piece, f, z);
  for (int i = 0; i < kDraws; ++i) out[i] = with_sign(words[i], z[i]);
}

}  // namespace brainsim
