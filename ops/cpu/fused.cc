// Runs a kernel that brainsim/fusion compiled for the equations of a unit: one pass over the units of every element of
// the batch. Kernels are found by number, so that a program kept on disk holds no address.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/handler.h"

namespace brainsim {
namespace {

// Of units begin..end: reads scalars and vectors, writes vectors, one bit per unit of the last of them into `words`,
// and into `tally` the number of bits set and whether anything is not finite. `begin` is a multiple of 64.
using Kernel = void (*)(void* const* scalars, void* const* in, void* const* out, void* words, int64_t begin,
                        int64_t end, int32_t* tally);

std::mutex kernels_mutex;
std::unordered_map<int64_t, Kernel> kernels;

Kernel find(int64_t id) {
  std::lock_guard<std::mutex> lock(kernels_mutex);
  auto found = kernels.find(id);
  return found == kernels.end() ? nullptr : found->second;
}

constexpr int64_t kChunk = 4096;  // units at a time: what a chunk writes is still in the cache when it is cleared

// An operand of any type, seen element by element of the batch.
struct Operand {
  char* data;
  int64_t size;   // entries of one batch element
  int64_t width;  // bytes of an entry
  std::vector<int64_t> stride;

  template <typename Buffer>
  Operand(const Buffer& buffer, int64_t rank) : data(static_cast<char*>(buffer.untyped_data())), size(1), stride(rank) {
    auto dims = buffer.dimensions();
    width = static_cast<int64_t>(ffi::ByteWidth(buffer.element_type()));
    for (size_t a = rank; a < dims.size(); ++a) size *= dims[a];
    int64_t step = size * width;
    for (int64_t a = rank; a-- > 0;) {
      stride[a] = dims[a] == 1 ? 0 : step;
      step *= dims[a];
    }
  }

  char* at(const Axes& coordinates) const {
    char* to = data;
    for (size_t a = 0; a < stride.size(); ++a) to += coordinates[a] * stride[a];
    return to;
  }
};

// args: scalars, vectors, then (slot, ring) pairs. rets: vectors, rings, words, count, bad.
ffi::Error fused(ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t id, int64_t n, int64_t n_scalars,
                 int64_t n_rings, int64_t rank) {
  const Kernel kernel = find(id);
  if (kernel == nullptr) {
    return ffi::Error(ffi::ErrorCode::kFailedPrecondition,
                      "brainsim: this program was compiled in another process and its fused kernel is not here; "
                      "trace it again");
  }
  const int64_t n_vectors = static_cast<int64_t>(args.size()) - n_scalars - 2 * n_rings;
  const int64_t n_out = static_cast<int64_t>(rets.size()) - n_rings - 3;
  if (n_vectors < 0 || n_out < 1) return ffi::Error::InvalidArgument("fused: numbers of operands do not fit");
  Batch batch(rank);
  static thread_local std::vector<Operand> in, out;  // kept: a step at a time should not allocate
  in.clear();
  out.clear();
  in.reserve(args.size());
  out.reserve(rets.size());
  for (size_t k = 0; k < args.size(); ++k) {
    auto buffer = args.get<ffi::AnyBuffer>(k);
    if (buffer.has_error()) return buffer.error();
    batch.with(*buffer);
    if (batch.ok()) in.emplace_back(*buffer, rank);
  }
  for (size_t k = 0; k < rets.size(); ++k) {
    auto buffer = rets.get<ffi::AnyBuffer>(k);
    if (buffer.has_error()) return buffer.error();
    if (batch.ok()) out.emplace_back(**buffer, rank);
  }
  if (!batch.ok()) return ffi::Error::InvalidArgument("fused: batch axes do not fit");
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

  static thread_local std::vector<void*> scalars, from, to;
  scalars.resize(n_scalars);
  from.resize(n_vectors + n_rings);
  to.resize(n_out);
  batch.each([&](const Axes& b) {
    for (int64_t k = 0; k < n_scalars; ++k) scalars[k] = in[k].at(b);
    for (int64_t k = 0; k < n_vectors; ++k) from[k] = in[n_scalars + k].at(b);
    for (int64_t k = 0; k < n_out; ++k) to[k] = out[k].at(b);
    for (int64_t k = 0; k < n_rings; ++k) {
      const Operand &slot = in[n_scalars + n_vectors + 2 * k], &old = in[n_scalars + n_vectors + 2 * k + 1];
      const Operand& ring = out[n_out + k];
      if (ring.at(b) != old.at(b)) std::memcpy(ring.at(b), old.at(b), ring.size * ring.width);
      const int64_t depth = n == 0 ? 1 : ring.size / n;
      int64_t row = *reinterpret_cast<const int32_t*>(slot.at(b)) % depth;
      if (row < 0) row += depth;
      from[n_vectors + k] = ring.at(b) + row * n * ring.width;
    }
    char* bits = words->at(b);
    if (n_words > 0) std::memset(bits + 4 * (n_words - 1), 0, 4);
    int32_t total = 0, any = 0;
    for (int64_t begin = 0; begin < n; begin += kChunk) {
      const int64_t end = std::min(begin + kChunk, n);
      int32_t tally[2];
      kernel(scalars.data(), from.data(), to.data(), bits, begin, end, tally);
      for (int64_t k = 0; k < n_rings; ++k) {  // what has arrived is taken out of the ring
        const int64_t width = out[n_out + k].width;
        std::memset(static_cast<char*>(from[n_vectors + k]) + begin * width, 0, (end - begin) * width);
      }
      total += tally[0];
      any |= tally[1];
    }
    *reinterpret_cast<int32_t*>(counted->at(b)) = total;
    *reinterpret_cast<int32_t*>(bad->at(b)) = any;
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace brainsim

BRAINSIM_EXPORT void brainsim_fused_register(int64_t id, void* kernel) {
  std::lock_guard<std::mutex> lock(brainsim::kernels_mutex);
  brainsim::kernels[id] = reinterpret_cast<brainsim::Kernel>(kernel);
}

BRAINSIM_HANDLER(brainsim_fused, brainsim::fused,
                 xla::ffi::Ffi::Bind()
                     .RemainingArgs()
                     .RemainingRets()
                     .Attr<int64_t>("id")
                     .Attr<int64_t>("n")
                     .Attr<int64_t>("n_scalars")
                     .Attr<int64_t>("n_rings")
                     .Attr<int64_t>("rank"));
