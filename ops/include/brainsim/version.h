// Version of the interface between the kernels and brainsim/events/_ffi.py; raise both when an operand changes.
#ifndef BRAINSIM_VERSION_H_
#define BRAINSIM_VERSION_H_

#define BRAINSIM_OPS_VERSION 10

#endif  // BRAINSIM_VERSION_H_
