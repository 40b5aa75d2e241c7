// What every XLA FFI handler of brainsim shares: how it is exported and how it is dispatched on the float type.
#ifndef BRAINSIM_HANDLER_H_
#define BRAINSIM_HANDLER_H_

#include "xla/ffi/api/ffi.h"

// The library is built with hidden symbols; what Python looks up has to be exported by name.
#define BRAINSIM_EXPORT extern "C" __attribute__((visibility("default")))

#define BRAINSIM_HANDLER(name, impl, ...)                             \
  BRAINSIM_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* call_frame); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, impl, __VA_ARGS__)

namespace brainsim {

namespace ffi = xla::ffi;

// Calls f(T()) with the C++ type of `type`, float or double; every buffer in `same` must have that type too.
template <typename F>
ffi::Error for_float_type(ffi::DataType type, std::initializer_list<ffi::DataType> same, F&& f) {
  for (ffi::DataType other : same) {
    if (other != type) return ffi::Error::InvalidArgument("brainsim: floating operands of different types");
  }
  if (type == ffi::DataType::F32) return f(float());
  if (type == ffi::DataType::F64) return f(double());
  return ffi::Error::InvalidArgument("brainsim: the kernels take float32 and float64 only");
}

}  // namespace brainsim

#endif  // BRAINSIM_HANDLER_H_
