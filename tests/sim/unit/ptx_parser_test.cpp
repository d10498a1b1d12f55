// Tests of the interpreter.
#include <boost/test/unit_test.hpp>
