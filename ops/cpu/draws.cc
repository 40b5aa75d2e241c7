// The generator.
#include "brainsim/random.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace brainsim {

namespace {

constexpr int kCalls = kDraws / 4;
constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u, kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;

void plain_draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out) {
  for (int l = 0; l < kCalls; ++l) {
    uint32_t x0 = kCalls * batch + l, x1 = segment, x2 = row, x3 = purpose, k0 = seed.a, k1 = seed.b;
    for (int round = 0; round < 10; ++round, k0 += kW0, k1 += kW1) {
      const uint32_t high0 = mulhi(kM0, x0), low0 = kM0 * x0, high1 = mulhi(kM1, x2), low1 = kM1 * x2;
      x0 = high1 ^ x1 ^ k0;
      x1 = low1;
      x2 = high0 ^ x3 ^ k1;
      x3 = low0;
    }
    out[l] = x0;
    out[l + kCalls] = x1;
    out[l + 2 * kCalls] = x2;
    out[l + 3 * kCalls] = x3;
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

// floor(log2 v) of the odd number v = 2 half + 1, from the exponent of a float that cannot round up: unlike a count of
// leading zeros, this vectorises.
inline uint32_t octave(uint32_t half) {
  const float f = static_cast<float>(static_cast<int32_t>(half & ~(half >> 1)));
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(bits >> 23) - 126;
  return exponent < 0 ? 0 : exponent;
}

// A decreasing convex function on a piece of an octave, c0 - f (c1 - f c2); in short loops, for the vectors' sake.
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
  constexpr uint32_t kLn2 = 93032640;  // ln 2 * 2^27
  uint32_t piece[kDraws], f[kDraws], whole[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t half = words[i] & 0x7fffffffu, e = 31 - octave(half), m = (2 * half + 1) << e;
    piece[i] = (m >> (31 - kLogBits)) & ((1u << kLogBits) - 1);
    f[i] = m << (kLogBits + 1);
    whole[i] = e * kLn2;
  }
  curve(table, piece, f, out);
  for (int i = 0; i < kDraws; ++i) out[i] += whole[i];
}

BRAINSIM_CLONES void fixed_normals(const uint32_t* words, const uint32_t* table, int32_t* out) {
  uint32_t piece[kDraws], f[kDraws], z[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t half = words[i] & 0x7fffffffu, o = octave(half), m = (2 * half + 1) << (31 - o);
    piece[i] = (o << kNormalBits) + ((m >> (31 - kNormalBits)) & ((1u << kNormalBits) - 1));
    f[i] = m << (kNormalBits + 1);
  }
  curve(table, piece, f, z);
  for (int i = 0; i < kDraws; ++i) {
    const int32_t sign = static_cast<int32_t>(words[i]) >> 31;
    out[i] = (static_cast<int32_t>(z[i]) ^ sign) - sign;
  }
}

}  // namespace brainsim
