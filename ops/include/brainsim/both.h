// What the kernels of a GPU use as it stands: the arithmetic is written once, and tested on the host.
#ifndef BRAINSIM_BOTH_H_
#define BRAINSIM_BOTH_H_

#if defined(__CUDACC__)
#define BRAINSIM_BOTH __host__ __device__
#else
#define BRAINSIM_BOTH
#endif

#endif  // BRAINSIM_BOTH_H_
