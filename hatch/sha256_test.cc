// SPDX-License-Identifier: Apache-2.0
#include "hatch/sha256.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace argosy::hatch {
namespace {

class Sha256Test : public testing::TestWithParam<Sha256::Implementation> {
 protected:
  std::string Hash(const std::string& text, size_t step) {
    Sha256 sha(GetParam());
    const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
    for (size_t i = 0; i < text.size(); i += step) {
      sha.Update(absl::MakeConstSpan(bytes + i, std::min(step, text.size() - i)));
    }
    return ToHex(sha.Finish());
  }
};

// The examples of FIPS 180-4 (NIST's SHA256.pdf and the SHAVS short messages).
TEST_P(Sha256Test, StandardVectors) {
  const std::pair<std::string, const char*> vectors[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmn"
       "o"
       "pqrsmnopqrstnopqrstu",
       "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
      {std::string(1000000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [message, digest] : vectors) {
    EXPECT_EQ(Hash(message, 1 << 20), digest) << message.size() << " bytes";
  }
}

TEST_P(Sha256Test, SameDigestInWhateverPieces) {
  for (size_t size : {1, 55, 56, 63, 64, 65, 119, 120, 128, 1000}) {
    const std::string message(size, 'x');
    const std::string whole = Hash(message, size);
    for (size_t step : {1, 7, 63, 64, 65, 127}) EXPECT_EQ(Hash(message, step), whole) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Both, Sha256Test,
                         testing::Values(Sha256::Implementation::kFastest,
                                         Sha256::Implementation::kPortable));

}  // namespace
}  // namespace argosy::hatch
