// Preconditions of Boost.Test cases: BOOST_AUTO_TEST_CASE(name, *only_on_cpus("reason")). A case whose precondition
// fails counts as skipped, and Boost.Test reports the reason. The device of a case comes from
// tests/support/test_device.h.
#pragma once

#include "tests/support/test_device.h"

namespace longlora {

/// The case is skipped on a GPU, simulated or real, for the given reason.
inline boost::unit_test::precondition only_on_cpus(const char* reason) {
    return boost::unit_test::precondition([reason](boost::unit_test::test_unit_id) {
        boost::test_tools::assertion_result result(!kOnGpu);
        if (kOnGpu) result.message() << "it runs on CPUs only: " << reason;
        return result;
    });
}

}  // namespace longlora
