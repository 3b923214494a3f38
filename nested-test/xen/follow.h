// SPDX-License-Identifier: Apache-2.0
// The guests' consoles, which xenconsoled writes into files of a folder, as one stream of lines.
#ifndef ARGOSY_NESTED_TEST_XEN_FOLLOW_H_
#define ARGOSY_NESTED_TEST_XEN_FOLLOW_H_

#include <string>

namespace argosy {

// Copies every line of each FOLDER/guest-NAME.log to the standard output as "NAME| line", as it comes.
// Returns at SIGTERM, when all that was there is copied.
int Follow(const std::string& folder);

// Waits until a line of the file contains the text; 1 if the process `writer` (or 0) ends without having written it.
int Await(const std::string& file, const std::string& text, int writer);

}  // namespace argosy

#endif  // ARGOSY_NESTED_TEST_XEN_FOLLOW_H_
