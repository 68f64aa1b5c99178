// What is noted of launches: whose code it is, how often it was launched, how long it took.
//
//   image of code ──> module or library ──> function or kernel ──> launch
//   (whose file is    (note_image)          (note_function)        (Noted, and replay for graphs)
//    known: origin)
//
// Nothing is noted before the process was given a page to note it in (note_launches_in).
#pragma once

#include <cstddef>
#include <string>

#include "driver.h"

namespace launches {

// The file that an image lies in; of one that was made at run time the file of its loader.
std::string origin_of(const void* image, const void* loader);

void note_image(Handle handle, const std::string& origin);
void note_function(Handle function, Handle image, const char* name);
void note_same_image(Handle handle, Handle as);
void note_same_function(Handle function, Handle as);

// One launch of some kernels: noted, and on request timed or left out.
class Noted {
 public:
  Noted(const Handle* kernels, size_t count, Handle stream);

  bool left_out() const { return left_out_; }

  // To be called with what the driver answered to the launch, if it was not left out.
  Result done(Result result);

 private:
  bool capturing() const;
  void begin();
  void record(Handle event) const;

  Handle stream_, begun_ = nullptr, ended_ = nullptr;
  int row_ = -1;
  bool left_out_ = false;
};

// The kernels of a graph that can be launched from now on, and a launch of them all.
void note_graph(Handle executable, Handle graph);
Result replay(Result (*launch)(Handle, Handle), Handle executable, Handle stream);

// Note launches from now on in the page behind a descriptor; false where it cannot be mapped.
bool note_launches_in(int memory);

// Wait for the device and add up what was timed. The driver has a context by then.
void settle();

}  // namespace launches
