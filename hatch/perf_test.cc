// SPDX-License-Identifier: Apache-2.0
#include "hatch/perf.h"

#include "gtest/gtest.h"

namespace argosy::hatch {
namespace {

TEST(FormatJson, EscapesAndHasEveryField) {
  PerfResult r;
  r.transport = "loopback:/tmp/a\"b\\c\n";
  r.peer = {3, 1234};
  r.bytes = 1'000'000'000;
  r.seconds = 2;
  r.block = 65536;
  r.ping_size = 64;
  r.latency = {1000, 1, 1, 2, 3, 4, 5};
  EXPECT_EQ(FormatJson(r),
            R"({"transport":"loopback:/tmp/a\"b\\c\u000a","peer":{"cid":3,"port":1234},)"
            R"("direction":"send","bytes":1000000000,"seconds":2.000000,"gbit_per_second":4.0000,)"
            R"("write_size":65536,"round_trip_us":{"count":1000,"lost":1,"size":64,)"
            R"("min":1.00,"p50":2.00,"p90":3.00,"p99":4.00,"max":5.00}})"
            "\n");
}

TEST(FormatText, NamesTheDirection) {
  PerfResult r;
  r.reverse = true;
  r.bytes = 1 << 30;
  r.seconds = 1;
  r.block = 4096;
  EXPECT_EQ(FormatText(r), "received 1.0 GiB in 1.00 s, 8.59 Gbit/s in writes of 4096 bytes\n");
}

}  // namespace
}  // namespace argosy::hatch
