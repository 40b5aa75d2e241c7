// The loop one would write: post[indices[j]] += value[i] * weights[j] for the synapses j of every unit i that is
// active. The yardstick of operators.py, which compiles it for this machine and calls it through ctypes.
#include <chrono>
#include <cstdint>

namespace {

double now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

}  // namespace

// `steps` rows of `value`, one propagation each into `out`; returns the seconds.
extern "C" double plain_propagate(float* out, const float* value, const float* weights, const int32_t* indptr,
                                  const int32_t* indices, int64_t n_pre, int64_t steps) {
  const double start = now();
  for (int64_t step = 0; step < steps; ++step, value += n_pre) {
    for (int64_t i = 0; i < n_pre; ++i) {
      if (value[i] == 0) continue;
      for (int32_t j = indptr[i]; j < indptr[i + 1]; ++j) out[indices[j]] += value[i] * weights[j];
    }
  }
  return now() - start;
}
