// Stands for torch/torch.h, of which the precompiled prefix holds what candidates use.
#pragma once

#ifndef KH_PREFIX
#error "one of the prefix headers (declarations.h, code.h, bindings.h) has to come first"
#endif
