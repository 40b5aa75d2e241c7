#include "brainsim/version.h"

#include "brainsim/handler.h"

BRAINSIM_EXPORT int brainsim_ops_version() { return BRAINSIM_OPS_VERSION; }
