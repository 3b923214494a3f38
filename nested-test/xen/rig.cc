// SPDX-License-Identifier: Apache-2.0
// What the rig's shell scripts cannot do by themselves.
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "nested-test/xen/follow.h"
#include "nested-test/xen/serve.h"

namespace {

constexpr char kUsage[] =
    "usage: rig serve               take commands from dom0 (in a guest)\n"
    "       rig run DOMID COMMAND   run a command in a guest, end as it ends\n"
    "       rig ready NAME [OLD]    wait until a guest takes commands (with another DOMID than "
    "OLD); print its DOMID\n"
    "       rig gone DOMID          wait until a domain is gone\n"
    "       rig follow FOLDER       copy the consoles that xenconsoled writes there\n"
    "       rig await FILE TEXT [PID]\n"
    "                               wait until a line of the file has the text, or this process "
    "has ended without it\n";

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const std::string verb = args.empty() ? "" : args[0];
  if (verb == "serve" && args.size() == 1) argosy::Serve();
  if (verb == "run" && args.size() == 3) return argosy::Run(args[1], args[2]);
  if (verb == "ready" && (args.size() == 2 || args.size() == 3)) {
    return argosy::Ready(args[1], args.size() == 3 ? args[2] : "");
  }
  if (verb == "gone" && args.size() == 2) return argosy::Gone(args[1]);
  if (verb == "follow" && args.size() == 2) return argosy::Follow(args[1]);
  if (verb == "await" && (args.size() == 3 || args.size() == 4)) {
    return argosy::Await(args[1], args[2], args.size() == 4 ? atoi(args[3].c_str()) : 0);
  }
  fputs(kUsage, stderr);
  return 2;
}
