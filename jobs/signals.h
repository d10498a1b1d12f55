// Asking a run to stop: SIGUSR1 and SIGTERM set a flag that the step loop reads. Installed before MPI_Init, so nothing is lost at start.
// Only for commands that read the flag: the others end at once, as processes do.
#pragma once

namespace longlora {

void install_stop_signals();
void ignore_file_size_signal();   ///< a file size limit becomes a failed write with a sentence
void explain_bus_errors();        ///< a mapped file that cannot be read ends the process with a sentence and exit code 2
bool stop_signal_came();

}  // namespace longlora
