// SPDX-License-Identifier: Apache-2.0
// Numbers as bytes, whatever the machine's own order.
#ifndef ARGOSY_HATCH_ENDIAN_H_
#define ARGOSY_HATCH_ENDIAN_H_

#include <cstddef>
#include <cstdint>

namespace argosy::hatch {

template <typename T>
T LoadLittle(const void* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<const uint8_t*>(from)[i]) << (8 * i);
  }
  return value;
}

template <typename T>
void StoreLittle(void* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    static_cast<uint8_t*>(to)[i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T LoadBig(const void* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<const uint8_t*>(from)[i]) << (8 * (sizeof(T) - 1 - i));
  }
  return value;
}

template <typename T>
void StoreBig(void* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    static_cast<uint8_t*>(to)[i] = static_cast<uint8_t>(value >> (8 * (sizeof(T) - 1 - i)));
  }
}

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_ENDIAN_H_
