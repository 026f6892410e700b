// Where a run works and writes.

// Nextflow quotes no `$` and no line break of the work folder's path, which stands in every task's script.
def check_places() {
    [work: workflow.workDir, project: workflow.projectDir].each { name, place ->
        if (place.toString() =~ /[\x00-\x1f\x7f$`"\\]/ || (name == 'project' && place.toString().contains("'"))) {
            error("${name} folder '${place}': control characters and any of \$ ` \" \\ are not allowed in its path, nor ' in the project's")
        }
    }
    def encoding = System.getProperty('sun.jnu.encoding')
    if (!encoding.equalsIgnoreCase('UTF-8') && [workflow.workDir, workflow.projectDir, params].any { one -> one.toString() =~ /[^\x00-\x7f]/ }) {
        error("this machine's locale knows ${encoding} alone, and a path or parameter has letters beyond it; set LC_ALL=C.UTF-8 (setup/nextflow.sh does)")
    }
}

// Nobody else's run writes into this folder until this one ends, however it ends; null where the folder's file system has no locks.
def hold_results(outdir, from_results) {
    def folder = file(outdir, glob: false)
    if (from_results && file(from_results, glob: false).normalize() == folder.normalize()) {
        error("parameter outdir = '${outdir}': the folder of from_results; the index of one run would take the other's place, so another was expected")
    }
    if (folder.scheme != 'file') {
        return null
    }
    def place = folder.resolve('pipeline_info')
    place.mkdirs()
    def held = locked(place.resolve('.running'))
    if (held == false) {
        error("parameter outdir = '${outdir}': another run writes there now; another folder, or to wait for its end, was expected")
    }
    if (folder.resolve('index.json').exists() && !workflow.resume) {
        log.warn("outdir '${outdir}' has results of an earlier run; what this one does not write anew stays there, and its index.json does not list it")
    }
    return held
}

// The lock of a file, false where another process has it, null where there are no locks.
def locked(one) {
    try {
        def channel = java.nio.channels.FileChannel.open(one, java.nio.file.StandardOpenOption.CREATE, java.nio.file.StandardOpenOption.WRITE)
        return channel.tryLock() ?: false
    }
    catch (java.nio.channels.OverlappingFileLockException _here) {
        return false
    }
    catch (IOException problem) {
        log.warn("${one}: no lock (${problem.message}); two runs at once into this folder would mix")
        return null
    }
}
