#include "kernel/frame/caf.hpp"

#include <gtest/gtest.h>

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <string>
#include <vector>

#include "troupe/schemas/client_generated.h"

namespace troupe {
namespace {

using error_message = message<wire::Error>;
using buffer = std::vector<char>;

error_message make() {
  wire::ErrorT table;
  table.code = error_code::overloaded;
  table.text = "why";
  return error_message::pack(table);
}

buffer sent(error_message m) {
  buffer out;
  caf::binary_serializer sink(nullptr, out);
  EXPECT_FALSE(sink(m));
  return out;
}

// The error that reading ends with, if any.
caf::error receive(const buffer& from, error_message& m) {
  caf::binary_deserializer source(nullptr, from);
  return source(m);
}

buffer with_length(buffer b, std::uint32_t length) {
  const auto honest = sent(error_message{});  // an empty message is its length alone
  buffer out;
  caf::binary_serializer sink(nullptr, out);
  EXPECT_FALSE(sink(length));
  out.insert(out.end(), b.begin() + static_cast<std::ptrdiff_t>(honest.size()), b.end());
  return out;
}

TEST(MessageOverCaf, ArrivesAsItWasSent) {
  const auto original = make();
  error_message arrived;
  ASSERT_FALSE(receive(sent(original), arrived));
  EXPECT_EQ(arrived->code(), error_code::overloaded);
  EXPECT_EQ(arrived->text()->str(), "why");
  EXPECT_NE(arrived.bytes().data(), original.bytes().data());
}

TEST(MessageOverCaf, ArrivesEmptyIfItWasEmpty) {
  auto arrived = make();
  ASSERT_FALSE(receive(sent(error_message{}), arrived));
  EXPECT_FALSE(arrived);
}

TEST(MessageOverCaf, IsRefusedWhenItsLengthLies) {
  const auto honest = sent(make());
  const auto size = static_cast<std::uint32_t>(make().bytes().size());
  ASSERT_EQ(with_length(honest, size), honest);
  for (const std::uint32_t length : {1u, 7u, 8u, size / 2, size + 1, 1u << 20}) {
    auto arrived = make();
    EXPECT_TRUE(receive(with_length(honest, length), arrived)) << length;
    EXPECT_EQ(arrived->text()->str(), "why") << "unchanged on failure";
  }
}

TEST(MessageOverCaf, IsRefusedWhenItIsTooLarge) {
  error_message arrived;
  const auto problem =
      receive(with_length(sent(make()), static_cast<std::uint32_t>(max_flatbuffer_bytes) + 1), arrived);
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem, caf::sec::invalid_argument);
  EXPECT_FALSE(arrived);
}

TEST(MessageOverCaf, IsRefusedWhenItsBytesAreCorruptOrCut) {
  const auto honest = sent(make());
  const auto head = honest.size() - make().bytes().size();
  auto corrupt = honest;
  std::fill(corrupt.begin() + static_cast<std::ptrdiff_t>(head), corrupt.end(), static_cast<char>(0xff));
  error_message arrived;
  EXPECT_EQ(receive(corrupt, arrived), caf::sec::invalid_argument);
  for (std::size_t size = 0; size < honest.size(); ++size)
    EXPECT_TRUE(receive(buffer(honest.begin(), honest.begin() + static_cast<std::ptrdiff_t>(size)), arrived))
        << size;
  EXPECT_FALSE(arrived);
}

}  // namespace
}  // namespace troupe
