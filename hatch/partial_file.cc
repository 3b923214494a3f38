// SPDX-License-Identifier: Apache-2.0
#include "hatch/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

absl::Status ExistsError(const std::string& name) {
  return ErrnoError(EEXIST,
                    absl::StrCat(name, " exists: choose another name, or -f to replace it"));
}

// So that the new name, too, survives a power cut.
absl::Status SyncDirectoryOf(const std::string& name) {
  const size_t slash = name.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : name.substr(0, std::max<size_t>(slash, 1));
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: a file system that cannot sync directories.
  if (!fd.valid() || (fsync(fd.get()) != 0 && errno != EINVAL)) {
    return SystemError(errno, absl::StrCat("cannot sync ", directory));
  }
  return absl::OkStatus();
}

// Opens and locks `part`.  A lock, not O_EXCL: what a killed receiver left behind is simply written anew.
absl::StatusOr<UniqueFd> OpenLocked(const std::string& part) {
  for (;;) {
    // O_NONBLOCK: somebody's FIFO under this name must not stop us.
    UniqueFd fd(open(part.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
    if (!fd.valid()) return SystemError(errno, absl::StrCat("cannot create ", part));
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return ErrnoError(EBUSY, absl::StrCat(part, " is being written by another 'hatch recv'"));
    }
    // Another receiver may have given the file its final name, or removed it, between open() and the lock: then it is not ours.
    struct stat held, there;
    if (fstat(fd.get(), &held) != 0)
      return SystemError(errno, absl::StrCat("cannot look at ", part));
    if (lstat(part.c_str(), &there) != 0 || held.st_ino != there.st_ino ||
        held.st_dev != there.st_dev)
      continue;
    // Nobody else may have it under another name, or own it: they could change it after it was checked.
    if (!S_ISREG(held.st_mode) || held.st_nlink != 1 || held.st_uid != geteuid()) {
      return ErrnoError(
          EEXIST, absl::StrCat(part, " is somebody else's: remove it, or choose another name"));
    }
    return fd;
  }
}

}  // namespace

PartialFile::PartialFile(std::string name, bool replace, UniqueFd fd)
    : name_(std::move(name)), part_(name_ + ".part"), replace_(replace), fd_(std::move(fd)) {}

absl::StatusOr<PartialFile> PartialFile::Create(const std::string& name, bool replace) {
  struct stat st;
  if (lstat(name.c_str(), &st) == 0) {
    // Renaming over a device or a link would take it away.
    if (!S_ISREG(st.st_mode)) {
      return ErrnoError(
          EEXIST, absl::StrCat(name, " is no ordinary file: use '-' and the shell's > instead"));
    }
    if (!replace) return ExistsError(name);
  }
  const std::string part = name + ".part";
  absl::StatusOr<UniqueFd> fd = OpenLocked(part);
  if (!fd.ok()) return fd.status();
  PartialFile file(name, replace, *std::move(fd));
  if (ftruncate(file.fd_.get(), 0) != 0)
    return SystemError(errno, absl::StrCat("cannot empty ", part));
  return file;
}

PartialFile::~PartialFile() {
  if (fd_.valid()) unlink(part_.c_str());
}

absl::Status PartialFile::Write(absl::Span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_.get(), bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(n);
    } else if (errno != EINTR) {
      return SystemError(errno, absl::StrCat("cannot write ", part_));
    }
  }
  return absl::OkStatus();
}

absl::Status PartialFile::Commit() {
  if (fsync(fd_.get()) != 0) return SystemError(errno, absl::StrCat("cannot write ", part_));
  int result =
      renameat2(AT_FDCWD, part_.c_str(), AT_FDCWD, name_.c_str(), replace_ ? 0 : RENAME_NOREPLACE);
  // EINVAL: a file system without RENAME_NOREPLACE; link() does not replace either.
  if (result != 0 && errno == EINVAL && !replace_) {
    result = link(part_.c_str(), name_.c_str());
    if (result == 0) unlink(part_.c_str());
  }
  if (result != 0) {
    return errno == EEXIST ? ExistsError(name_)
                           : SystemError(errno, absl::StrCat("cannot name ", name_));
  }
  fd_.reset();
  return SyncDirectoryOf(name_);
}

}  // namespace argosy::hatch
