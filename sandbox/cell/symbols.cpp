#include "sandbox/cell/symbols.hpp"

#include <elf.h>

#include <cstring>

namespace troupe::sandbox {

namespace {

template <class T>
bool read_at(std::span<const std::uint8_t> file, std::uint64_t at, T& into) {
  if (at > file.size() || sizeof(T) > file.size() - at) return false;
  std::memcpy(&into, file.data() + at, sizeof(T));
  return true;
}

bool section(std::span<const std::uint8_t> file, const Elf64_Ehdr& header, std::uint64_t index,
             Elf64_Shdr& into) {
  return index < header.e_shnum && read_at(file, header.e_shoff + index * sizeof(Elf64_Shdr), into);
}

std::string_view text_at(std::span<const std::uint8_t> file, const Elf64_Shdr& strings, std::uint64_t at) {
  if (at >= strings.sh_size || strings.sh_offset > file.size() ||
      strings.sh_size > file.size() - strings.sh_offset)
    return {};
  const auto* begin = reinterpret_cast<const char*>(file.data() + strings.sh_offset + at);
  return {begin, ::strnlen(begin, strings.sh_size - at)};
}

// The function of one symbol table that contains `offset`.
std::string_view find(std::span<const std::uint8_t> file, const Elf64_Ehdr& header, const Elf64_Shdr& symbols,
                      std::uint64_t offset) {
  Elf64_Shdr strings = {};
  if (!section(file, header, symbols.sh_link, strings)) return {};
  for (std::uint64_t i = 0; i < symbols.sh_size / sizeof(Elf64_Sym); ++i) {
    Elf64_Sym symbol = {};
    if (!read_at(file, symbols.sh_offset + i * sizeof symbol, symbol)) return {};
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_shndx != SHN_UNDEF &&
        offset >= symbol.st_value && offset - symbol.st_value < symbol.st_size)
      return text_at(file, strings, symbol.st_name);
  }
  return {};
}

}  // namespace

std::string_view function_at(std::span<const std::uint8_t> file, std::uint64_t offset) {
  Elf64_Ehdr header = {};
  if (!read_at(file, 0, header) || header.e_shentsize != sizeof(Elf64_Shdr)) return {};
  for (const std::uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
      Elf64_Shdr s = {};
      if (!section(file, header, i, s)) return {};
      if (s.sh_type != wanted) continue;
      if (const auto name = find(file, header, s, offset); !name.empty()) return name;
    }
  }
  return {};
}

}  // namespace troupe::sandbox
