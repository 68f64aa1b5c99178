// Nothing of its own: what it declares is always there.
#pragma once

#include "emulated/device.h"
