/* The layout of a header's structs as data, so that two headers can be compared. */
#ifndef TROUPE_TESTS_LAYOUT_H
#define TROUPE_TESTS_LAYOUT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum layout_kind { layout_field, layout_struct, layout_number };

struct layout_entry {
  const char* name; /* "troupe_module.build" */
  enum layout_kind kind;
  size_t offset; /* of a field */
  size_t value;  /* bytes of a field or struct; the number */
};

#ifdef __cplusplus
}
#endif

#endif
