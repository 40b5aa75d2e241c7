// Runs a kernel that brainsim/fusion compiled for the equations of a unit: one pass over the units of every element of
// the batch. Kernels are found by number, so that a program kept on disk holds no address.
#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/handler.h"
#include "brainsim/parallel.h"
#include "brainsim/units.h"
#include "brainsim/untyped.h"

namespace brainsim {
namespace {

std::mutex kernels_mutex;
std::unordered_map<int64_t, void*> kernels;

constexpr int64_t kUnitsWorthSharing = 1 << 17;

// The operands of a call, kept from call to call: there are tens of them, many times a millisecond.
struct Operands {
  std::vector<Operand> in, out;
};

// The pointers of one chunk.
struct Pointers {
  std::vector<void*> scalars, from, to;
};

// args: scalars, vectors, then (slot, ring) pairs. rets: vectors, rings, words, count, bad.
ffi::Error fused(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t id, int64_t n,
                 int64_t n_scalars, int64_t n_rings, int64_t rank) {
  const auto kernel = reinterpret_cast<Kernel>(find_kernel(id));
  if (kernel == nullptr) {
    return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                      "brainsim: this program was compiled in another process and its fused kernel is not here; "
                      "trace it again");
  }
  const int64_t n_vectors = static_cast<int64_t>(args.size()) - n_scalars - 2 * n_rings;
  const int64_t n_out = static_cast<int64_t>(rets.size()) - n_rings - 3;
  if (n_vectors < 0 || n_out < 1) return ffi::Error::InvalidArgument("fused: numbers of operands do not fit");
  Batch batch(rank);
  static thread_local Operands operands;
  std::vector<Operand>&in = operands.in, &out = operands.out;
  if (auto error = read_operands(args, rets, batch, in, out); error.failure()) return error;
  const Operand *words = &out[n_out + n_rings], *counted = words + 1, *bad = words + 2;
  const int64_t n_words = (n + 31) / 32;
  bool fit = words->size == n_words && counted->size == 1 && bad->size == 1;
  for (int64_t k = 0; k < n_scalars; ++k) fit &= in[k].size == 1;
  for (int64_t k = 0; k < n_vectors; ++k) fit &= in[n_scalars + k].size == n;
  for (int64_t k = 0; k < n_out; ++k) fit &= out[k].size == n;
  for (int64_t k = 0; k < n_rings; ++k) {
    const Operand &slot = in[n_scalars + n_vectors + 2 * k], &ring = in[n_scalars + n_vectors + 2 * k + 1];
    fit &= slot.size == 1 && (n == 0 || (ring.size > 0 && ring.size % n == 0)) && out[n_out + k].size == ring.size;
  }
  if (!fit) return ffi::Error::InvalidArgument("fused: lengths do not fit");

  const int64_t chunks = std::max<int64_t>((n + kChunk - 1) / kChunk, 1);
  std::vector<Axes> elements;
  batch.each([&](const Axes& b) {
    elements.push_back(b);
    for (int64_t k = 0; k < n_rings; ++k) {
      const Operand &old = in[n_scalars + n_vectors + 2 * k + 1], &ring = out[n_out + k];
      if (ring.at(b) != old.at(b)) std::memcpy(ring.at(b), old.at(b), ring.size * ring.width);
    }
    if (n_words > 0) std::memset(words->at(b) + 4 * (n_words - 1), 0, 4);
  });
  std::vector<std::array<int32_t, 2>> tallies(elements.size() * chunks);
  auto chunk = [&](int64_t item) {
    static thread_local Pointers kept;
    Pointers& p = kept;
    const Axes& b = elements[item / chunks];
    const int64_t begin = item % chunks * kChunk, end = std::min(begin + kChunk, n);
    p.scalars.clear();
    p.from.clear();
    p.to.clear();
    for (int64_t k = 0; k < n_scalars; ++k) p.scalars.push_back(in[k].at(b));
    for (int64_t k = 0; k < n_vectors; ++k) p.from.push_back(in[n_scalars + k].at(b));
    for (int64_t k = 0; k < n_out; ++k) p.to.push_back(out[k].at(b));
    for (int64_t k = 0; k < n_rings; ++k) {
      const Operand &slot = in[n_scalars + n_vectors + 2 * k], &ring = out[n_out + k];
      const int64_t depth = n == 0 ? 1 : ring.size / n;
      const int64_t row = ring_row(*reinterpret_cast<const int32_t*>(slot.at(b)), depth);
      p.from.push_back(ring.at(b) + row * n * ring.width);
    }
    kernel(p.scalars.data(), p.from.data(), p.to.data(), words->at(b), begin, end, tallies[item].data());
  };
  const int64_t items = static_cast<int64_t>(tallies.size());
  if (n * static_cast<int64_t>(elements.size()) < kUnitsWorthSharing) {
    for (int64_t item = 0; item < items; ++item) chunk(item);
  } else {
    parallel_for(pool, items, chunk);
  }
  for (size_t e = 0; e < elements.size(); ++e) {
    int32_t total = 0, any = 0;
    for (int64_t c = 0; c < chunks; ++c) {
      total += tallies[e * chunks + c][0];
      any |= tallies[e * chunks + c][1];
    }
    *reinterpret_cast<int32_t*>(counted->at(elements[e])) = total;
    *reinterpret_cast<int32_t*>(bad->at(elements[e])) = any;
  }
  return ffi::Error::Success();
}

}  // namespace

void* find_kernel(int64_t id) {
  std::lock_guard<std::mutex> lock(kernels_mutex);
  auto found = kernels.find(id);
  return found == kernels.end() ? nullptr : found->second;
}

}  // namespace brainsim

BRAINSIM_EXPORT void brainsim_fused_register(int64_t id, void* kernel) {
  std::lock_guard<std::mutex> lock(brainsim::kernels_mutex);
  brainsim::kernels[id] = kernel;
}

BRAINSIM_HANDLER(brainsim_fused, brainsim::fused,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .RemainingArgs()
                     .RemainingRets()
                     .Attr<int64_t>("id")
                     .Attr<int64_t>("n")
                     .Attr<int64_t>("n_scalars")
                     .Attr<int64_t>("n_rings")
                     .Attr<int64_t>("rank"));
