// What tasks ask a scheduler for: our request for GPUs joins the options of a site.

class ClusterOptions {

    // A site's file may set `clusterOptions` for all processes, for a label or for a process, and each setting takes the place
    // of another.  So ours is put behind each of them, in the configuration that processes are made from.
    static void join(Map process) {
        def selected = process.findAll { name, one -> name.startsWith('with') && one instanceof Map && one.clusterOptions != null }
        ([process] + selected.values()).each { Map one -> one.clusterOptions = joined(one.clusterOptions) }
    }

    // ``theirs``, text, a list or a closure of a task, and our request, as a closure of the task.
    static Closure joined(theirs) {
        return {
            def task = delegate.task
            def asked = [theirs instanceof Closure ? of_task(theirs, delegate) : theirs].flatten().findAll().collect { one -> one.toString() }
            task.executor == 'slurm' && task.accelerator ? with_gpus(asked, task.accelerator.request) : asked ?: null
        }
    }

    private static of_task(Closure theirs, task) {
        def mine = theirs.rehydrate(task, theirs.owner, theirs.thisObject)
        mine.resolveStrategy = Closure.DELEGATE_FIRST
        return mine.call()
    }

    // Who asks for GPUs in other words is not asked again; of several --gres Slurm takes the last.
    private static List<String> with_gpus(List<String> asked, count) {
        if (asked.any { one -> one =~ /--gres[= ]\S*gpu|--gpus|(^|\s)-G/ }) {
            return asked
        }
        if (asked.any { one -> one =~ /--gres[= ]/ }) {
            return asked.collect { one -> one.replaceFirst(/(--gres[= ]\S+)/, '$1,gpu:' + count) }
        }
        return asked + ["--gres=gpu:${count}".toString()]
    }
}
