// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/simulation.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace argosy::sim {
namespace {

std::vector<std::string> TimelineOf(uint64_t seed) {
  std::vector<std::string> lines;
  Simulation simulation(seed, [&](const std::string& line) { lines.push_back(line); });
  simulation.Run();
  return lines;
}

TEST(SimulationTest, ASeedDecidesEverything) {
  for (uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    const std::vector<std::string> first = TimelineOf(seed);
    EXPECT_GT(first.size(), 10u);
    EXPECT_TRUE(first == TimelineOf(seed)) << seed;
  }
  EXPECT_FALSE(TimelineOf(1) == TimelineOf(2));
}

TEST(SimulationTest, ItIsTheSameWhetherSomebodyReadsOrNot) {
  for (uint64_t seed : {11, 12, 13}) {
    Simulation silent(seed, nullptr);
    silent.Run();
    uint64_t lines = 0;
    Simulation read(seed, [&](const std::string&) { ++lines; });
    read.Run();
    EXPECT_EQ(silent.tally().packets, read.tally().packets);
    EXPECT_EQ(silent.tally().faults, read.tally().faults);
    EXPECT_EQ(silent.tally().oracles, read.tally().oracles);
    EXPECT_GT(lines, 0u);
  }
}

TEST(JournalTest, TheFirstFindingStands) {
  std::vector<std::string> lines;
  Journal journal([&](const std::string& line) { lines.push_back(line); });
  EXPECT_TRUE(journal.Check(Oracle::kPrefix, true, [] { return "fine"; }));
  EXPECT_FALSE(journal.found());
  EXPECT_FALSE(journal.Check(Oracle::kPrefix, false, [] { return "first"; }));
  EXPECT_FALSE(journal.Check(Oracle::kCredit, false, [] { return "second"; }));
  EXPECT_EQ(journal.finding(), "received is a prefix of sent: first");
  EXPECT_EQ(lines.size(), 2u);
  EXPECT_EQ(journal.tally().oracles[static_cast<size_t>(Oracle::kPrefix)], 2u);
}

// Seeds that found a bug.  What a seed does changes with the simulation: 1187, 4354, 15350 and 18756
// found theirs in an earlier form of it, the others were seen to find it with the mend taken out.
// What keeps the bug away is a test of its own, which is named here.
TEST(RegressionTest, SeedsThatFoundBugs) {
  const struct {
    uint64_t seed;
    const char* test;
  } kFound[] = {
      // The sender took updates about messages for answers to its questions, and waited for ever.
      {1, "CreditTest.OneUpdateMayAnswerSeveralQuestions"},
      {1187, "CreditTest.OneUpdateMayAnswerSeveralQuestions"},
      // Xen believed an overwritten rx_ptr, and the sender waited for ever.
      {161, "RingReader.NoticesThatItsOwnPointerWasOverwritten"},
      {676, "RingReader.NoticesThatItsOwnPointerWasOverwritten"},
      // A clean end although the program had not read all: a question released the held byte.
      {1450, "ConnectionTest.AStreamsPeerThatAsksIsNotToldOfTheHeldByte"},
      {6204, "ConnectionTest.AStreamsPeerThatAsksIsNotToldOfTheHeldByte"},
      // The same, as nobody took it back or believed it.
      {9, "ConnectionTest.AHeldByteThatAMessageMayNeedIsToldAndTakenBack"},
      {551, "ConnectionTest.APeerThatReadsNoMoreMayTakeBackWhatItTold"},
      {15350, "ConnectionTest.AMessageTakenWhileTheProgramStopsIsNotTold"},
      // A close time-out that was over at once.
      {18756, "MachineTest.APacketThatWasFoundLateMeetsTheTimeOfNow"},
      // A question that was lost was never repeated.
      {4354, "CreditTest.AQuestionWithoutAnswerIsRepeatedLessAndLessOften"},
  };
  for (const auto& found : kFound) {
    Simulation simulation(found.seed, nullptr);
    simulation.Run();
    EXPECT_EQ(simulation.finding(), "") << found.seed << ": " << found.test;
  }
}

}  // namespace
}  // namespace argosy::sim
