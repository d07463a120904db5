// How the actor framework carries a message<T>: by handle in a process, as length and bytes between processes.
// What arrives from another process is verified once.
#pragma once

#include <caf/deserializer.hpp>
#include <caf/error.hpp>
#include <caf/meta/type_name.hpp>
#include <caf/sec.hpp>
#include <caf/serializer.hpp>
#include <type_traits>
#include <vector>

#include "kernel/frame/message.hpp"

namespace troupe {

template <class Inspector, class T>
typename Inspector::result_type inspect(Inspector& f, message<T>& x) {
  if constexpr (std::is_base_of_v<caf::serializer, Inspector>) {
    auto bytes = x.bytes();
    auto size = static_cast<std::uint32_t>(bytes.size());
    if (auto problem = f(size)) return problem;
    if (size == 0) return caf::none;
    return f.apply_raw(size, const_cast<std::uint8_t*>(bytes.data()));
  } else if constexpr (std::is_base_of_v<caf::deserializer, Inspector>) {
    std::uint32_t size = 0;
    if (auto problem = f(size)) return problem;
    if (size == 0) {
      x = message<T>{};
      return caf::none;
    }
    if (size > max_flatbuffer_bytes) return caf::make_error(caf::sec::invalid_argument, "message too large");
    std::vector<std::uint8_t> bytes(size);
    if (auto problem = f.apply_raw(size, bytes.data())) return problem;
    auto verified = message<T>::adopt_untrusted(bytes);
    if (!verified) return caf::make_error(caf::sec::invalid_argument, verified.error().text);
    x = std::move(*verified);
    return caf::none;
  } else {
    auto size = static_cast<std::uint32_t>(x.bytes().size());
    return f(caf::meta::type_name(T::GetFullyQualifiedName()), size);
  }
}

}  // namespace troupe
