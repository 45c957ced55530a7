/* What the compiler is measured with: nothing included but this program's own unit, so that no header matters. */
#define JOIN(a, b) a##_##b
#define PASTE(a, b) JOIN(a, b)
#define NAME(x) PASTE(x, UNIT)

#define UNIT 1
#include "unit.h"
#undef UNIT
#define UNIT 2
#include "unit.h"
#undef UNIT
#define UNIT 3
#include "unit.h"
#undef UNIT
#define UNIT 4
#include "unit.h"
#undef UNIT
