/* Compiled once against the released header and once against the current one; LAYOUT names the table, RELEASE is the list. */
#include "layout.h"

#include <troupe/module.h>

#define SIZE_OF(type, field) sizeof(((const type*)0)->field)
#define FIELD(type, field) {#type "." #field, layout_field, offsetof(type, field), SIZE_OF(type, field)},
#define STRUCT(type) {#type, layout_struct, 0, sizeof(type)},
#define NUMBER(number) {#number, layout_number, 0, (size_t)(number)},

const struct layout_entry LAYOUT[] = {
#include RELEASE
    {NULL, layout_number, 0, 0}};
