// SPDX-License-Identifier: Apache-2.0
// argosy-hold CID PORT: a program whose send() reads memory that does not come, as from a file of a hung
// server.  The kernel keeps the socket locked meanwhile.  Ends when its input does: the memory comes then.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

constexpr size_t kPage = 4096;

int Failed(const char* what) {
  std::perror(what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: argosy-hold CID PORT\n");
    return 2;
  }
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = static_cast<unsigned>(std::atoi(argv[1]));
  address.svm_port = static_cast<unsigned>(std::atoi(argv[2]));
  const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed("argosy-hold: connect");
  }

  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int faults = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  uffdio_api api = {};
  api.api = UFFD_API;
  uffdio_register range = {};
  range.range.start = reinterpret_cast<uintptr_t>(page);
  range.range.len = kPage;
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (page == MAP_FAILED || faults < 0 || ioctl(faults, UFFDIO_API, &api) != 0 ||
      ioctl(faults, UFFDIO_REGISTER, &range) != 0) {
    return Failed("argosy-hold: userfaultfd");
  }
  std::thread sender([&] { send(fd, page, kPage, MSG_NOSIGNAL); });
  pollfd fault = {faults, POLLIN, 0};
  if (poll(&fault, 1, -1) != 1) return Failed("argosy-hold: poll");
  std::printf("held\n");
  std::fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  close(faults);  // the page is an ordinary one again
  sender.join();
  return 0;
}
