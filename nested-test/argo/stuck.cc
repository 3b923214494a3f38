// SPDX-License-Identifier: Apache-2.0
// argosy-stuck CID PORT: a connection that is shut both ways and kept open.  The kernel leaves such a
// socket among the connected ones, and no packet takes it out.
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: argosy-stuck CID PORT\n");
    return 2;
  }
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = static_cast<unsigned>(std::atoi(argv[1]));
  address.svm_port = static_cast<unsigned>(std::atoi(argv[2]));
  const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  char byte;
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      shutdown(fd, SHUT_RDWR) != 0) {
    std::perror("argosy-stuck");
    return 1;
  }
  std::printf("shut\n");
  std::fflush(stdout);
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
